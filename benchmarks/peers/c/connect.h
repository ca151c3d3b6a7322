#ifndef CONNECT_H
#define CONNECT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "bench.h"

/* host:port or unix:/path; the length of the result. */
static inline socklen_t parse_address(const char *text, struct sockaddr_storage *address) {
  memset(address, 0, sizeof *address);
  if (!strncmp(text, "unix:", 5)) {
    struct sockaddr_un *un = (struct sockaddr_un *)address;
    un->sun_family = AF_UNIX;
    snprintf(un->sun_path, sizeof un->sun_path, "%s", text + 5);
    return sizeof *un;
  }
  struct sockaddr_in *in = (struct sockaddr_in *)address;
  char host[64];
  const char *colon = strrchr(text, ':');
  snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
  in->sin_family = AF_INET;
  in->sin_port = htons((uint16_t)atoi(colon + 1));
  inet_pton(AF_INET, host, &in->sin_addr);
  return sizeof *in;
}

static inline void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* no effect on a Unix socket */
}

static inline int send_all(int fd, const char *bytes, size_t size) {
  while (size) {
    ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
    if (sent < 0) return -1;
    bytes += sent;
    size -= (size_t)sent;
  }
  return 0;
}

#endif
