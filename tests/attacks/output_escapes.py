# class: output
# kind: stdin
# must: reject
# note: control characters for whoever reads the log
print('\x1b[2J\x1b]0;canary\x07')
raise ValueError('\x1b[2J\x1b]0;canary\x07')
