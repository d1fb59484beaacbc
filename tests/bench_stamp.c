/*
 * bench_stamp - the command that the bench's doors run
 *
 *	cc -O2 -static -o build/bench_stamp tests/bench_stamp.c
 *	bench_stamp SOCKET TEXT
 *
 * Its first action is to look at the clock; it sends the time (ns of
 * CLOCK_MONOTONIC) and TEXT to the datagram socket of bench_probe.
 */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

int main(int argc, char **argv) {
    struct sockaddr_un to = { .sun_family = AF_UNIX };
    struct timespec t;
    char text[128];
    int fd, len;

    clock_gettime(CLOCK_MONOTONIC, &t);
    if (argc != 3) return 1;
    snprintf(to.sun_path, sizeof(to.sun_path), "%s", argv[1]);
    len = snprintf(text, sizeof(text), "%lld %s",
                   (long long)t.tv_sec * 1000000000 + t.tv_nsec, argv[2]);
    fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    return sendto(fd, text, (size_t)len, 0, (struct sockaddr *)&to,
                  sizeof(to)) != len;
}
