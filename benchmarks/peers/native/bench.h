/* What benchmarks/work.py and benchmarks/histogram.py say, for clients written in C and C++:
 * arguments, lines of work on standard input, histograms and results on standard output. */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BENCH_TEXT "hello world"
#define BENCH_LARGE_BYTES (64 << 20)
#define BENCH_BURN_MICROSECONDS 20000
#define BENCH_DEADLINE_SECONDS 60
#define BENCH_HOLD_MILLISECONDS 8000
#define BENCH_SETTLE_NS 2000000000ull
#define BENCH_TICK_NS 1000000ull
#define BENCH_DRAIN_NS 2000000000ull
#define BENCH_LOST_SECONDS 0.25 /* calls of so many in flight: it has lost */

struct bench_endpoint {
  const char *address; /* host:port or unix:/path */
  const char *tls;     /* directory of ca.pem, cert.pem, key.pem; or NULL */
};

static inline struct bench_endpoint bench_arguments(int argc, char **argv) {
  struct bench_endpoint endpoint = {NULL, NULL};
  for (int i = 1; i + 1 < argc; i += 2) {
    if (!strcmp(argv[i], "--address")) {
      endpoint.address = argv[i + 1];
    } else if (!strcmp(argv[i], "--tls")) {
      endpoint.tls = argv[i + 1];
    } else {
      break;
    }
  }
  if (!endpoint.address) {
    fprintf(stderr, "usage: %s --address ADDRESS [--tls DIRECTORY]\n", argv[0]);
    exit(2);
  }
  return endpoint;
}

struct bench_work {
  char kind[16], background[8];
  size_t size;
  int concurrency, connections, metadata, deadline;
  double seconds, warmup, rate;
};

/* Reads the next line of work; 0 at the end of the input. */
static inline int bench_read(struct bench_work *work) {
  char line[1024];
  if (!fgets(line, sizeof line, stdin)) return 0;
  memset(work, 0, sizeof *work);
  for (char *pair = strtok(line, " \n"); pair; pair = strtok(NULL, " \n")) {
    char *value = strchr(pair, '=');
    if (!value) continue;
    *value++ = 0;
    if (!strcmp(pair, "kind")) snprintf(work->kind, sizeof work->kind, "%s", value);
    if (!strcmp(pair, "background"))
      snprintf(work->background, sizeof work->background, "%s", value);
    if (!strcmp(pair, "size")) work->size = strtoul(value, NULL, 10);
    if (!strcmp(pair, "concurrency")) work->concurrency = atoi(value);
    if (!strcmp(pair, "connections")) work->connections = atoi(value);
    if (!strcmp(pair, "metadata")) work->metadata = atoi(value);
    if (!strcmp(pair, "deadline")) work->deadline = atoi(value);
    if (!strcmp(pair, "seconds")) work->seconds = atof(value);
    if (!strcmp(pair, "warmup")) work->warmup = atof(value);
    if (!strcmp(pair, "rate")) work->rate = atof(value);
  }
  return 1;
}

static inline uint64_t bench_now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

#define BENCH_BUCKETS 4096

struct bench_histogram {
  uint64_t counts[BENCH_BUCKETS];
};

static inline void bench_record(struct bench_histogram *histogram, uint64_t ns) {
  int bits = ns ? 64 - __builtin_clzll(ns) : 0;
  int shift = bits > 7 ? bits - 7 : 0;
  histogram->counts[((uint64_t)shift << 6) + (ns >> shift)]++;
}

struct bench_result {
  uint64_t calls, elapsed_ns, background, unanswered;
  struct bench_histogram latency, lateness;
};

static inline void bench_event(const char *name) {
  printf("{\"event\": \"%s\"}\n", name);
  fflush(stdout);
}

static inline void bench_error(const char *text) {
  printf("{\"error\": \"");
  for (; *text; text++)
    if (*text == '"' || *text == '\\') {
      printf("\\%c", *text);
    } else {
      putchar(*text < ' ' ? ' ' : *text);
    }
  printf("\"}\n");
  fflush(stdout);
}

static inline void bench_print_histogram(const char *name, const struct bench_histogram *h) {
  const char *comma = "";
  printf(", \"%s\": {", name);
  for (int i = 0; i < BENCH_BUCKETS; i++)
    if (h->counts[i]) {
      printf("%s\"%d\": %llu", comma, i, (unsigned long long)h->counts[i]);
      comma = ", ";
    }
  printf("}");
}

static inline void bench_print(const struct bench_result *result) {
  printf("{\"calls\": %llu, \"seconds\": %.9f, \"background\": %llu, \"unanswered\": %llu",
         (unsigned long long)result->calls, (double)result->elapsed_ns / 1e9,
         (unsigned long long)result->background, (unsigned long long)result->unanswered);
  bench_print_histogram("latency", &result->latency);
  bench_print_histogram("lateness", &result->lateness);
  printf("}\n");
  fflush(stdout);
}

#endif
