"""How long from a picture to its result, under load and over bad networks, seen from outside.

flags.py and settings.py say what is measured. One run: peers.py (or chromium.py) are cameras in
processes of their own (children.py) that send synthetic.py or recording.py, a number in the pixels
(barcode.py), over a network made worse (namespace.py, else link.py); run.py serves them, watched.py
reads the numbers, report.py sums up. Several runs: sweep.py. Sessions that come and go: soak.py
with callers.py, soaked.py the server, leaks.py the judge. page.py and plots.py show it all.
"""
