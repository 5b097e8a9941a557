# class: honest
# kind: stdin
# must: accept
# note: 
import sys
lines = sys.stdin.readlines()
a, b = map(int, lines[0].split())
sys.stdout.write(f'{a - b}')
