"""What the commands do, as functions that give data back; each knows how to say itself as text and as JSON.

inspect.py  what a file holds; anatomy.py takes it apart for a page, drawing.py lays out its graph, onnx.py writes that
compare.py  two models' answers, layer by layer
run.py      answers for a picture or an array file; images.py and arrays.py read and write those
bench.py    how fast a model is here; condition.py tells whether the machine can be trusted while it is measured
profile.py  where its time goes, as table, JSON, trace, page and picture; page.py makes pages, pages/ has their parts
check.py    what a network will cost on a device, by the model of time in costs.py and the figures of devices.py
info.py     CPU, build and versions
files.py    files written whole or not at all
text.py     tables, sizes, and names made safe for a terminal
"""
