# class: honest
# kind: both
# must: accept
# note: an event loop, with work in threads and a queue
import asyncio
async def work(a, b):
    queue = asyncio.Queue()
    await queue.put(await asyncio.to_thread(int.__sub__, a, b))
    await asyncio.sleep(0.001)
    async with asyncio.Lock():
        return await asyncio.wait_for(queue.get(), 5)
def difference(a, b):
    return asyncio.run(work(a, b))
if __name__ == "__main__":
    print(difference(*map(int, input().split())))
