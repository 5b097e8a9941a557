# class: time
# kind: both
# must: reject
# note: 
def spin():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
spin()
