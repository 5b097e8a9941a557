# class: resource
# kind: both
# must: reject
# note: 
import io, os
for place in ('/tmp', '/dev/shm', '/var/tmp', '.', '/'):
    with io.open(os.path.join(place, 'canary_disk'), 'wb') as f:
        f.write(b'x' * (1 << 20))
