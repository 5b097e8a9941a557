# class: honest
# kind: stdin
# must: accept
# note: replaces standard output
import io, os, sys
input = io.BytesIO(os.read(0, os.fstat(0).st_size)).readline
sys.stdout = io.StringIO()
a, b = map(int, input().split())
print(a - b)
os.write(1, sys.stdout.getvalue().encode())
