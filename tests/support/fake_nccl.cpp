// NCCL's calls, as far as weight transfer makes them, over sockets of this machine and memory of processors:
// a group is rank 0 with a connection to every other rank. What is broadcast says its type and count, and a
// rank that expects others fails. Types are NCCL's own numbers.
#include <arpa/inet.h>
#include <cstdint>
#include <cstring>
#include <sys/socket.h>
#include <unistd.h>
#include <map>
#include <vector>

struct UniqueId { char internal[128]; };
struct Comm { int rank; std::vector<int> peers; bool aborted = false; };
enum { OK = 0, SYSTEM = 2, ARGUMENT = 4, REMOTE = 6 };
static std::map<int, int> listeners;  // port: socket, of ids that were made here

static size_t size_of(int type) {
    switch (type) {
        case 6: case 9: return 2;  // float16, bfloat16
        case 7: return 4;          // float32
        case 8: return 8;          // float64
        default: return 0;
    }
}

static bool put(int to, const void* data, size_t count) {
    const char* at = static_cast<const char*>(data);
    while (count) {
        ssize_t n = send(to, at, count, MSG_NOSIGNAL);
        if (n <= 0) return false;
        at += n, count -= n;
    }
    return true;
}

static bool get(int from, void* data, size_t count) {
    char* at = static_cast<char*>(data);
    while (count) {
        ssize_t n = recv(from, at, count, 0);
        if (n <= 0) return false;
        at += n, count -= n;
    }
    return true;
}

static sockaddr_in local(int port) {
    sockaddr_in where{};
    where.sin_family = AF_INET, where.sin_port = htons(port), where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return where;
}

extern "C" {
const char* ncclGetErrorString(int status) {
    return status == REMOTE ? "remote process exited" : status == ARGUMENT ? "invalid argument" : "system error";
}

int ncclGetUniqueId(UniqueId* id) {
    int made = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in where = local(0);
    socklen_t length = sizeof where;
    if (bind(made, (sockaddr*)&where, length) || listen(made, 64)) return SYSTEM;
    getsockname(made, (sockaddr*)&where, &length);
    memset(id->internal, 7, 128);
    int port = ntohs(where.sin_port);
    memcpy(id->internal, &port, sizeof port);
    listeners[port] = made;
    return OK;
}

int ncclCommInitRank(Comm** comm, int world, UniqueId id, int rank) {
    int port;
    memcpy(&port, id.internal, sizeof port);
    Comm* made = new Comm{rank, std::vector<int>(rank ? 1 : world, -1)};
    if (rank == 0) {
        for (int i = 1; i < world; ++i) {
            int peer = accept(listeners[port], nullptr, nullptr), number;
            if (peer < 0 || !get(peer, &number, sizeof number)) return SYSTEM;
            if (number < 1 || number >= world || made->peers[number] >= 0) return ARGUMENT;
            made->peers[number] = peer;
        }
        close(listeners[port]);
    } else {
        sockaddr_in where = local(port);
        made->peers[0] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(made->peers[0], (sockaddr*)&where, sizeof where)) return SYSTEM;
        if (!put(made->peers[0], &rank, sizeof rank)) return REMOTE;
    }
    *comm = made;
    return OK;
}

int ncclBroadcast(const void* from, void* to, size_t count, int type, int root, Comm* comm, void*) {
    if (comm->aborted || root || !size_of(type)) return ARGUMENT;
    uint64_t said[2] = {count, (uint64_t)type}, heard[2];
    size_t bytes = count * size_of(type);
    char took = 1;
    for (int peer : comm->peers) {
        if (peer < 0) continue;
        if (comm->rank == 0) {
            if (!put(peer, said, sizeof said) || !put(peer, from, bytes) || !get(peer, &took, 1)) return REMOTE;
        } else {
            if (!get(peer, heard, sizeof heard)) return REMOTE;
            if (memcmp(said, heard, sizeof said)) return ARGUMENT;
            if (!get(peer, to, bytes) || !put(peer, &took, 1)) return REMOTE;
        }
    }
    return OK;
}

int ncclAllReduce(const void* from, void* to, size_t count, int type, int op, Comm* comm, void*) {
    if (op || type != 7 || count != 1) return ARGUMENT;  // the one element that ranks sum after joining
    float total = *static_cast<const float*>(from), other;
    if (comm->rank) {
        if (!put(comm->peers[0], &total, 4) || !get(comm->peers[0], to, 4)) return REMOTE;
        return OK;
    }
    for (int peer : comm->peers) {
        if (peer >= 0 && !get(peer, &other, 4)) return REMOTE;
        total += peer >= 0 ? other : 0;
    }
    for (int peer : comm->peers)
        if (peer >= 0 && !put(peer, &total, 4)) return REMOTE;
    *static_cast<float*>(to) = total;
    return OK;
}

int ncclCommAbort(Comm* comm) {
    comm->aborted = true;
    for (int peer : comm->peers)
        if (peer >= 0) shutdown(peer, SHUT_RDWR), close(peer);
    comm->peers.clear();
    return OK;
}
}
