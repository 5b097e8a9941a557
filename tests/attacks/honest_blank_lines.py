# class: honest
# kind: stdin
# must: accept
# note: trailing blanks and blank lines
a, b = map(int, input().split())
print(f'{a - b}   \n\n')
