"""Capture-to-result latency, measured from outside: under load and over bad networks.

measure.py makes one run and sums it up. Peers in processes of their own, of peers.py or
chromium.py, send the pictures of camera.py, each with its number in its pixels (barcode.py),
over a worse network where asked (network.py). standin.py reads the numbers at the recogniser.
__main__.py makes several runs; soak.py lets sessions come and go and finds what they leave behind.
rivals/ puts the same model and camera behind other frameworks.
"""
