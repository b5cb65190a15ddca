"""What every page of ours is made of: one HTML file, opened from disk, offline, without a server.

`document`: the file with its policy, style and script · `markup`: escaping, marks of difference, numbers, tables · `charts`:
bars and histograms as inline SVG · `page.css`: the style that all pages share.

Leaf room: knows no report and no snapshot. Nothing that somebody wrote reaches a page unescaped, and a page may load nothing:
its Content-Security-Policy names the digests of its one style and one script.
"""
