/* Keeps `concurrency` frames of a small call's size in flight, on as many connections as are asked
 * for, and sends one for each that came back. They fit into the sockets' buffers, so that nothing
 * waits while it sends. */
#include <sys/epoll.h>

#include "connect.h"

#define FRAME_BYTES 24
#define MAX_CONCURRENCY 1000
#define READY 64

struct connection {
  int fd;
  uint64_t *started; /* when each of its frames in flight was sent, in a ring */
  size_t first, running, received;
};

static struct connection connections[MAX_CONCURRENCY];
static char frames[FRAME_BYTES * MAX_CONCURRENCY];

/* Takes what has come back on one connection, and sends as much. */
static const char *turn(struct connection *connection, size_t share, uint64_t end,
                        struct bench_result *result) {
  static char buffer[1 << 18];
  ssize_t got = recv(connection->fd, buffer, sizeof buffer, 0);
  if (got <= 0) return "the server closed";
  connection->received += (size_t)got;
  size_t count = connection->received / FRAME_BYTES;
  connection->received %= FRAME_BYTES;
  uint64_t now = bench_now();
  for (size_t i = 0; i < count; i++) {
    uint64_t *started = connection->started + connection->first;
    bench_record(&result->latency, now - *started);
    *started = now;
    connection->first = (connection->first + 1) % share;
  }
  result->calls += count;
  if (now >= end)
    connection->running -= count;
  else if (send_all(connection->fd, frames, count * FRAME_BYTES))
    return "send failed";
  return NULL;
}

static const char *measure(int epoll, size_t count, size_t share, double seconds,
                           struct bench_result *result) {
  static uint64_t started[MAX_CONCURRENCY];
  const char *error = NULL;
  uint64_t begin = bench_now(), end = begin + (uint64_t)(seconds * 1e9);
  size_t running = count;
  memset(result, 0, sizeof *result);
  for (size_t i = 0; i < count * share; i++) started[i] = begin;
  for (size_t i = 0; i < count; i++) {
    struct connection *connection = &connections[i];
    *connection = (struct connection){connection->fd, started + i * share, 0, share, 0};
    if (send_all(connection->fd, frames, share * FRAME_BYTES)) return "send failed";
  }
  if (count == 1) /* nothing to wait for but this one */
    while (connections->running && !error) error = turn(connections, share, end, result);
  else
    while (running && !error) {
      struct epoll_event ready[READY];
      int some = epoll_wait(epoll, ready, READY, -1);
      for (int i = 0; i < some && !error; i++) {
        struct connection *connection = ready[i].data.ptr;
        error = turn(connection, share, end, result);
        if (!connection->running) running--;
      }
    }
  result->elapsed_ns = bench_now() - begin;
  return error;
}

int main(int argc, char **argv) {
  struct sockaddr_storage address;
  socklen_t length = parse_address(bench_arguments(argc, argv).address, &address);
  struct bench_work work;
  static struct bench_result result;
  while (bench_read(&work)) {
    int epoll = epoll_create1(0), count = work.connections, open = 0;
    const char *error = NULL;
    if (strcmp(work.kind, "unary") || count < 1 || work.concurrency < count ||
        work.concurrency > MAX_CONCURRENCY)
      error = "not supported";
    while (!error && open < count) {
      struct connection *connection = &connections[open];
      struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
      connection->fd = socket(address.ss_family, SOCK_STREAM, 0);
      if (connection->fd < 0) {
        error = "no socket";
        break;
      }
      open++;
      if (connect(connection->fd, (struct sockaddr *)&address, length)) error = "cannot connect";
      no_delay(connection->fd);
      epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event);
    }
    size_t share = error ? 0 : (size_t)(work.concurrency / count);
    if (!error && work.warmup > 0) error = measure(epoll, (size_t)count, share, work.warmup, &result);
    if (!error) {
      bench_event("begin");
      error = measure(epoll, (size_t)count, share, work.seconds, &result);
      bench_event("end");
    }
    while (open) close(connections[--open].fd);
    close(epoll);
    if (error)
      bench_error(error);
    else
      bench_print(&result);
  }
}
