"""The report as one HTML file, with plots to look into; it opens without a network.

    Analysis --sections--> markup \\
                                   document --write_atomically--> FILE
    StudyData --Source--> figures /

`figures/` is where one adds a plot: a file with one function, named in `figures/__init__.py`.
"""
