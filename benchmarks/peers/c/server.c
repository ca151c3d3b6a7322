/* Sends back what it reads: epoll, one thread. */
#include <signal.h>
#include <sys/epoll.h>

#include "connect.h"

int main(int argc, char **argv) {
  static char buffer[1 << 18];
  struct sockaddr_storage address;
  socklen_t length = parse_address(bench_arguments(argc, argv).address, &address);
  int listener = socket(address.ss_family, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024)) {
    perror("listen");
    return 1;
  }
  signal(SIGPIPE, SIG_IGN);
  int epoll = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = listener};
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    struct epoll_event ready[64];
    int count = epoll_wait(epoll, ready, 64, -1);
    for (int i = 0; i < count; i++) {
      int fd = ready[i].data.fd;
      if (fd == listener) {
        event.data.fd = accept(listener, NULL, NULL);
        no_delay(event.data.fd);
        epoll_ctl(epoll, EPOLL_CTL_ADD, event.data.fd, &event);
        continue;
      }
      ssize_t got = recv(fd, buffer, sizeof buffer, 0);
      if (got <= 0 || send_all(fd, buffer, (size_t)got)) close(fd);
    }
  }
}
