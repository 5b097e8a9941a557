# class: honest
# kind: both
# must: accept
# note: the library's pools of threads, and its locks of processes in one process
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Condition, Lock, RLock, Semaphore
from multiprocessing.dummy import Pool
from multiprocessing.pool import ThreadPool
def difference(a, b):
    with ThreadPool(2) as pool, Pool(2) as other, ThreadPoolExecutor(2) as third:
        parts = pool.map(int, [a, b]), other.map(int, [a, b]), list(third.map(int, [a, b]))
    lock, semaphore, condition = RLock(), Semaphore(2), Condition()
    with lock, lock, Lock(), semaphore, condition:
        condition.notify()
        return {p[0] - p[1] for p in parts}.pop()
if __name__ == "__main__":
    print(difference(*map(int, input().split())))
