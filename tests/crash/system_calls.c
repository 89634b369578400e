/* Kills its process at the n-th system call that changes a file below a folder, SQLite's own among them.
   Loaded by LD_PRELOAD; does nothing until `crash_arm` is called. A write that it dies in is done by half. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[4096];
static long kill_at;
static long passed;

void crash_arm(const char *path, long at) {
    snprintf(folder, sizeof folder, "%s", path);
    kill_at = at;
}

long crash_passed(void) { return passed; }

static int is_last(void) { return ++passed == kill_at; }

static void die(void) { kill(getpid(), SIGKILL); }

static int below(const char *path) { return folder[0] && strncmp(path, folder, strlen(folder)) == 0; }

static int is_below(int file) {
    char link[64], path[4096];
    if (!folder[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = 0;
    return below(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define DYING_BY_HALF(type, name, parameters, whole, half)  \
    type name parameters {                                   \
        if (is_below(file) && is_last()) {                    \
            REAL(name) half;                                  \
            die();                                            \
        }                                                     \
        return REAL(name) whole;                              \
    }

#define DYING_BEFORE(type, name, parameters, arguments, matters) \
    type name parameters {                                       \
        if (matters && is_last()) die();                         \
        return REAL(name) arguments;                             \
    }

DYING_BY_HALF(ssize_t, write, (int file, const void *from, size_t count), (file, from, count), (file, from, count / 2))
DYING_BY_HALF(ssize_t, pwrite, (int file, const void *from, size_t count, off_t at), (file, from, count, at),
              (file, from, count / 2, at))
DYING_BY_HALF(ssize_t, pwrite64, (int file, const void *from, size_t count, off64_t at), (file, from, count, at),
              (file, from, count / 2, at))
DYING_BEFORE(int, fsync, (int file), (file), is_below(file))
DYING_BEFORE(int, fdatasync, (int file), (file), is_below(file))
DYING_BEFORE(int, ftruncate, (int file, off_t size), (file, size), is_below(file))
DYING_BEFORE(int, ftruncate64, (int file, off64_t size), (file, size), is_below(file))
DYING_BEFORE(int, rename, (const char *from, const char *to), (from, to), below(to))
DYING_BEFORE(int, unlink, (const char *path), (path), below(path))
