// Draws each plot when it comes near the screen, in the colours of the theme.
(() => {
  "use strict";
  const page = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const touch = matchMedia("(pointer: coarse)");
  // States after M. Okabe, K. Ito, Color Universal Design (2008); the scale runs in one hue, from faint to strong.
  const themes = {
    light: {
      clear: "rgba(0,0,0,0)", text: "#1c2330", surface: "#ffffff", line: "#aab2bd", grid: "#e3e7ec", accent: "#c2410c",
      complete: "#0072b2", pruned: "#8a8f98", diverged: "#d55e00", failed: "#a8447f", running: "#00805c",
      dot: "rgba(255,255,255,.75)", dot_line: "#1c2330",
      scale: [[0, "#c9d6e2"], [0.35, "#8fbdd9"], [0.7, "#2f7fb8"], [1, "#08306b"]],
    },
    dark: {
      clear: "rgba(0,0,0,0)", text: "#dfe4eb", surface: "#1a2029", line: "#596475", grid: "#2b3340", accent: "#ffb347",
      complete: "#56b4e9", pruned: "#8d96a3", diverged: "#ff8a3d", failed: "#e59ac6", running: "#3fcf9f",
      dot: "rgba(0,0,0,.6)", dot_line: "#f2f5f8",
      scale: [[0, "#3a485b"], [0.35, "#2f6690"], [0.7, "#56b4e9"], [1, "#e8f6ff"]],
    },
  };
  let printing = false;

  const theme = () => (printing ? "light" : root.dataset.theme || (dark.matches ? "dark" : "light"));

  // Only what stands under a name with "color" is a colour: no text of the user's is ever replaced.
  function coloured(value, key, colours) {
    if (typeof value === "string") return /color/.test(key) && value in colours ? colours[value] : value;
    if (Array.isArray(value)) return typeof value[0] === "object" ? value.map((one) => coloured(one, key, colours)) : value;
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, coloured(one, name, colours)]));
  }

  function figure(name) {
    const { data, layout } = coloured(page.figures[name], "", themes[theme()]);
    for (const trace of data) {
      if (trace.customdata) trace.text = trace.customdata.map((trial) => (trial === null ? "" : page.trials[trial]));
    }
    if (touch.matches) layout.dragmode = false; // a finger scrolls the page
    layout.autosize = true;
    return [data, layout];
  }

  // Buttons are named one by one: among the library's own is one that sends the plot to a server.
  const buttons = [["toImage", "zoom2d", "pan2d", "resetScale2d"]];
  const config = (bar) => ({
    responsive: true, displaylogo: false, modeBarButtons: buttons, plotlyServerURL: "",
    displayModeBar: bar && root.clientWidth >= 600 && "hover",
  });

  function draw(box) {
    const redrawn = box.dataset.drawn === "true";
    box.dataset.drawn = "true";
    return Plotly[redrawn ? "react" : "newPlot"](box, ...figure(box.dataset.plot), config(box.dataset.bar === "true"));
  }

  const boxes = [...document.querySelectorAll("[data-plot]")];
  const redraw = () => boxes.filter((box) => box.dataset.drawn === "true").forEach(draw);
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        if (target.dataset.drawn !== "true") draw(target);
      }
    },
    { rootMargin: "300px" },
  );
  boxes.forEach((box) => near.observe(box));

  document.getElementById("theme").addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    redraw();
  });
  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => {
    printing = true;
    root.dataset.screen = root.dataset.theme || "";
    root.dataset.theme = "light";
    boxes.forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    if (root.dataset.screen) root.dataset.theme = root.dataset.screen;
    else delete root.dataset.theme;
    redraw();
  });
})();
