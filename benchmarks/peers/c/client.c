/* Keeps `concurrency` frames of a small call's size in flight on one connection, and sends one for
 * each that came back. They fit into the sockets' buffers, so that nothing waits while it sends. */
#include "connect.h"

#define FRAME_BYTES 24
#define MAX_CONCURRENCY 1000

static const char *measure(int fd, const struct bench_work *work, double seconds,
                           struct bench_result *result) {
  static char frames[FRAME_BYTES * MAX_CONCURRENCY], buffer[1 << 18];
  static uint64_t started[MAX_CONCURRENCY];
  size_t concurrency = (size_t)work->concurrency, first = 0, running = concurrency, received = 0;
  uint64_t begin = bench_now(), end = begin + (uint64_t)(seconds * 1e9);
  memset(result, 0, sizeof *result);
  for (size_t i = 0; i < concurrency; i++) started[i] = begin;
  if (send_all(fd, frames, concurrency * FRAME_BYTES)) return "send failed";
  while (running) {
    ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got <= 0) return "the server closed";
    received += (size_t)got;
    size_t count = received / FRAME_BYTES;
    received %= FRAME_BYTES;
    uint64_t now = bench_now();
    for (size_t i = 0; i < count; i++) {
      bench_record(&result->latency, now - started[first]);
      started[first] = now;
      first = (first + 1) % concurrency;
    }
    result->calls += count;
    if (now >= end)
      running -= count;
    else if (send_all(fd, frames, count * FRAME_BYTES))
      return "send failed";
  }
  result->elapsed_ns = bench_now() - begin;
  return NULL;
}

int main(int argc, char **argv) {
  struct sockaddr_storage address;
  socklen_t length = parse_address(bench_arguments(argc, argv).address, &address);
  struct bench_work work;
  static struct bench_result result;
  while (bench_read(&work)) {
    int fd = socket(address.ss_family, SOCK_STREAM, 0);
    const char *error = NULL;
    if (strcmp(work.kind, "unary") || work.concurrency > MAX_CONCURRENCY)
      error = "not supported";
    else if (connect(fd, (struct sockaddr *)&address, length))
      error = "cannot connect";
    no_delay(fd);
    if (!error && work.warmup > 0) error = measure(fd, &work, work.warmup, &result);
    if (!error) {
      bench_event("begin");
      error = measure(fd, &work, work.seconds, &result);
      bench_event("end");
    }
    close(fd);
    if (error)
      bench_error(error);
    else
      bench_print(&result);
  }
}
