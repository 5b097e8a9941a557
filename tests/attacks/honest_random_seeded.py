# class: honest
# kind: both
# must: accept
# note: random but right
import random
random.shuffle(list(range(100)))
def difference(a, b):
    return a - b
if __name__ == '__main__':
    print(difference(*map(int, input().split())))
