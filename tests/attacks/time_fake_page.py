# class: time
# kind: both
# must: reject
# note: writes a late start into the page that the zygote reads
import gc, mmap, struct
pages = [o for o in gc.get_objects() if isinstance(o, mmap.mmap)]
while True:
    for page in pages:
        struct.pack_into('<qq', page, 0, 10 ** 9, 1 << 62)
