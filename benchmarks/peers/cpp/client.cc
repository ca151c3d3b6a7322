// gRPC C++ with its asynchronous API: one completion queue and the one thread that drains it.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bench.h"
#include "echo.grpc.pb.h"

using benchmark::Bench;
using benchmark::Echo;
using benchmark::Flow;

namespace {

std::string payload(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; i++) bytes[i] = static_cast<char>(i % 256);
  return bytes;
}

struct Step {
  virtual void done(bool ok) = 0;
  virtual ~Step() = default;
};

void check(const grpc::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.error_message());
}

class Connection {
 public:
  explicit Connection(const bench_endpoint& endpoint) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection for each channel
    auto credentials = grpc::InsecureChannelCredentials();
    if (endpoint.tls) {
      std::ifstream file(std::string(endpoint.tls) + "/ca.pem");
      std::stringstream authority;
      authority << file.rdbuf();
      credentials = grpc::SslCredentials({authority.str(), "", ""});
    }
    channel_ = grpc::CreateCustomChannel(endpoint.address, credentials, arguments);
    auto patience = std::chrono::system_clock::now() + std::chrono::seconds(10);
    if (!channel_->WaitForConnected(patience)) throw std::runtime_error("cannot connect");
    stub_ = Bench::NewStub(channel_);
  }

  Bench::Stub* stub() const { return stub_.get(); }

 private:
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<Bench::Stub> stub_;
};

using Connections = std::vector<std::unique_ptr<Connection>>;
using Method = std::unique_ptr<grpc::ClientAsyncResponseReader<Echo>> (Bench::Stub::*)(
    grpc::ClientContext*, const Echo&, grpc::CompletionQueue*);

// One unary call after the other: `ended` is called after each.
class UnaryCall : public Step {
 public:
  UnaryCall(grpc::CompletionQueue* queue, Bench::Stub* stub, const bench_work& work, Method method)
      : queue_(queue), stub_(stub), work_(work), method_(method) {
    if (work.size == sizeof BENCH_TEXT - 1) {
      request_.set_text(BENCH_TEXT);
    } else {
      request_.set_payload(payload(work.size));
    }
  }

  void start(uint64_t number, uint64_t time) {
    started = time;
    request_.set_number(number);
    reader_.reset();
    context_.emplace();
    if (work_.metadata) {
      context_->AddMetadata("x-request-id", "5f0c8d3e");
      context_->AddMetadata("x-tenant", "acme");
      context_->AddMetadata("x-trace", "00-4bf92f-01");
    }
    if (work_.deadline) {
      auto length = std::chrono::seconds(BENCH_DEADLINE_SECONDS);
      context_->set_deadline(std::chrono::system_clock::now() + length);
    }
    reader_ = (stub_->*method_)(&*context_, request_, queue_);
    reader_->Finish(&reply_, &status_, this);
  }

  void done(bool) override {
    check(status_);
    if (reply_.number() != request_.number()) throw std::runtime_error("wrong reply");
    ended(this);
  }

  std::function<void(UnaryCall*)> ended;
  uint64_t started = 0;

 private:
  grpc::CompletionQueue* queue_;
  Bench::Stub* stub_;
  const bench_work& work_;
  Method method_;
  Echo request_, reply_;
  grpc::Status status_;
  std::optional<grpc::ClientContext> context_;
  std::unique_ptr<grpc::ClientAsyncResponseReader<Echo>> reader_;
};

class Driver {
 public:
  explicit Driver(const bench_endpoint& endpoint) : endpoint_(endpoint) {}

  void measure(const bench_work& work) {
    result_ = std::make_unique<bench_result>();
    std::string kind = work.kind;
    if (kind == "idle") return idle(work);
    if (kind == "held") return held(work);
    Connections connections;
    for (int i = 0; i < work.connections; i++)
      connections.push_back(std::make_unique<Connection>(endpoint_));
    Background background(this, *connections[0], work.background);
    if (work.warmup > 0) perform(kind == "open" ? "unary" : kind, work, connections, work.warmup);
    result_ = std::make_unique<bench_result>();
    uint64_t before = background.count;
    bench_event("begin");
    perform(kind, work, connections, work.seconds);
    bench_event("end");
    result_->background = background.count - before;
    background.stop();
    bench_print(result_.get());
  }

 private:
  // One call after the other on the side, until it is stopped.
  struct Background {
    Background(Driver* driver, const Connection& connection, const std::string& kind)
        : driver(driver) {
      if (kind.empty()) return;
      bool burn = kind == "burn";
      work.size = burn ? sizeof BENCH_TEXT - 1 : BENCH_LARGE_BYTES;
      uint64_t number = burn ? BENCH_BURN_MICROSECONDS : 1;
      auto method = burn ? &Bench::Stub::AsyncBurn : &Bench::Stub::AsyncUnary;
      call.emplace(&driver->queue_, connection.stub(), work, method);
      call->ended = [this, number](UnaryCall* call) {
        count++;
        if (running) {
          call->start(number, 0);
        } else {
          finished = true;
        }
      };
      call->start(number, 0);
      running = true;
    }

    void stop() {
      if (!running) return;
      running = false;
      while (!finished) driver->step();
    }

    Driver* driver;
    bench_work work{};
    std::optional<UnaryCall> call;
    uint64_t count = 0;
    bool running = false, finished = false;
  };

  void step() {
    void* tag;
    bool ok;
    if (!queue_.Next(&tag, &ok)) throw std::runtime_error("the completion queue ended");
    static_cast<Step*>(tag)->done(ok);
  }

  void perform(const std::string& kind, const bench_work& work, const Connections& connections,
               double seconds) {
    if (kind == "unary") return closed_loop(work, connections, seconds);
    if (kind == "open") return open_loop(work, connections, seconds);
    if (kind == "ping_pong") return ping_pong(work, connections, seconds);
    streams(kind, work, connections, seconds);
  }

  void closed_loop(const bench_work& work, const Connections& connections, double seconds) {
    std::vector<std::unique_ptr<UnaryCall>> calls;
    uint64_t begin = bench_now(), end = begin + static_cast<uint64_t>(seconds * 1e9);
    uint64_t number = 0;
    int running = work.concurrency;
    for (int i = 0; i < work.concurrency; i++) {
      auto* stub = connections[i % connections.size()]->stub();
      calls.push_back(
          std::make_unique<UnaryCall>(&queue_, stub, work, &Bench::Stub::AsyncUnary));
      calls.back()->ended = [&](UnaryCall* call) {
        uint64_t now = bench_now();
        bench_record(&result_->latency, now - call->started);
        result_->calls++;
        if (now < end) {
          call->start(++number, now);
        } else {
          running--;
        }
      };
    }
    for (auto& call : calls) call->start(++number, bench_now());
    while (running) step();
    result_->elapsed_ns = bench_now() - begin;
  }

  // Sends what is due whenever it wakes, whatever became of earlier calls.
  void open_loop(const bench_work& work, const Connections& connections, double seconds) {
    std::vector<std::unique_ptr<UnaryCall>> calls;
    std::vector<UnaryCall*> free;
    uint64_t total = static_cast<uint64_t>(work.rate * seconds), sent = 0, running = 0;
    double interval = 1e9 / work.rate;
    uint64_t begin = bench_now();
    auto ended = [&](UnaryCall* call) {
      bench_record(&result_->latency, bench_now() - call->started);
      result_->calls++;
      running--;
      free.push_back(call);
    };
    while (sent < total && running < work.rate * BENCH_LOST_SECONDS) {
      uint64_t due = static_cast<uint64_t>((bench_now() - begin) / interval) + 1;
      for (; sent < std::min(due, total); sent++) {
        if (free.empty()) {
          calls.push_back(std::make_unique<UnaryCall>(&queue_, connections[0]->stub(), work,
                                                      &Bench::Stub::AsyncUnary));
          calls.back()->ended = ended;
          free.push_back(calls.back().get());
        }
        UnaryCall* call = free.back();
        free.pop_back();
        uint64_t intended = begin + static_cast<uint64_t>(sent * interval);
        bench_record(&result_->lateness, bench_now() - intended);
        running++;
        call->start(sent, intended);
      }
      uint64_t next = begin + static_cast<uint64_t>(sent * interval);
      step_until(std::max<uint64_t>(next, bench_now() + BENCH_TICK_NS));
    }
    result_->elapsed_ns = bench_now() - begin;
    uint64_t patience = bench_now() + BENCH_DRAIN_NS;
    while (running && bench_now() < patience) step_until(patience, true);
    result_->unanswered = total - result_->calls;
    while (running) step();
  }

  // Handles what completes until then, or only the next completion.
  void step_until(uint64_t time, bool once = false) {
    uint64_t now = bench_now();
    auto clock = std::chrono::system_clock::now();
    auto deadline = clock + std::chrono::nanoseconds(time > now ? time - now : 0);
    void* tag;
    bool ok;
    while (queue_.AsyncNext(&tag, &ok, deadline) == grpc::CompletionQueue::GOT_EVENT) {
      static_cast<Step*>(tag)->done(ok);
      if (once || bench_now() >= time) return;
    }
  }

  struct Stream : Step {
    virtual void start(uint64_t count) = 0;

    std::function<void()> ended;
    grpc::CompletionQueue* queue;
    Bench::Stub* stub;
    size_t size;
    grpc::Status status;
    std::optional<grpc::ClientContext> context;
  };

  struct ServerStream : Stream {
    void start(uint64_t count) override {
      expected = count;
      received = 0;
      state = kStarting;
      Flow flow;
      flow.set_count(count);
      flow.set_size(size);
      reader.reset();
      context.emplace();
      reader = stub->AsyncServerStream(&*context, flow, queue, this);
    }

    void done(bool ok) override {
      if (state == kFinishing) {
        check(status);
        if (received != expected) throw std::runtime_error("wrong number of messages");
        return ended();
      }
      if (state == kReading && ok) received++;
      if (ok) {
        state = kReading;
        reader->Read(&message, this);
      } else {
        state = kFinishing;
        reader->Finish(&status, this);
      }
    }

    enum { kStarting, kReading, kFinishing } state;
    uint64_t expected, received;
    Echo message;
    std::unique_ptr<grpc::ClientAsyncReader<Echo>> reader;
  };

  struct ClientStream : Stream {
    void start(uint64_t count) override {
      expected = left = count;
      state = kWriting;
      message.set_payload(payload(size));
      writer.reset();
      context.emplace();
      writer = stub->AsyncClientStream(&*context, &answer, queue, this);
    }

    void done(bool ok) override {
      if (state == kFinishing) {
        check(status);
        if (answer.number() != expected) throw std::runtime_error("wrong number of messages");
        return ended();
      }
      if (!ok || state == kClosing) {
        state = kFinishing;
        writer->Finish(&status, this);
      } else if (left) {
        left--;
        writer->Write(message, grpc::WriteOptions().set_buffer_hint(), this);
      } else {
        state = kClosing;
        writer->WritesDone(this);
      }
    }

    enum { kWriting, kClosing, kFinishing } state;
    uint64_t expected, left;
    Echo message, answer;
    std::unique_ptr<grpc::ClientAsyncWriter<Echo>> writer;
  };

  // Writes and reads at the same time: two steps are pending, this one and `writes`.
  struct Bidi : Stream {
    struct Writes : Step {
      void done(bool ok) override { bidi->written(ok); }
      Bidi* bidi;
    } writes;

    void start(uint64_t count) override {
      writes.bidi = this;
      expected = left = count;
      received = 0;
      state = kStarting;
      writing = true;
      message.set_payload(payload(size));
      stream.reset();
      context.emplace();
      stream = stub->AsyncBidiStream(&*context, queue, this);
    }

    void done(bool ok) override {
      if (state == kFinishing) {
        check(status);
        if (received != expected) throw std::runtime_error("wrong number of messages");
        return ended();
      }
      if (!ok) {
        state = kEnded;
        return finish();
      }
      if (state == kStarting) {
        written(true);
      } else {
        received++;
      }
      state = kReading;
      stream->Read(&echo, this);
    }

    void written(bool ok) {
      if (closing || !ok) {
        writing = false;
        closing = false;
        return finish();
      }
      if (left) {
        left--;
        stream->Write(message, grpc::WriteOptions().set_buffer_hint(), &writes);
      } else {
        closing = true;
        stream->WritesDone(&writes);
      }
    }

    void finish() {
      if (state != kEnded || writing) return;
      state = kFinishing;
      stream->Finish(&status, this);
    }

    enum { kStarting, kReading, kEnded, kFinishing } state;
    bool writing = false, closing = false;
    uint64_t expected, left, received;
    Echo message, echo;
    std::unique_ptr<grpc::ClientAsyncReaderWriter<Echo, Echo>> stream;
  };

  // A message is written, its echo is read, until `lap` says that it is enough.
  struct PingPong : Stream {
    void start(uint64_t) override {
      state = kReading;
      message.set_payload(payload(size));
      stream.reset();
      context.emplace();
      stream = stub->AsyncBidiStream(&*context, queue, this);
    }

    void done(bool ok) override {
      if (state == kFinishing) {
        check(status);
        return ended();
      }
      if (!ok || state == kClosing) {
        state = kFinishing;
        stream->Finish(&status, this);
      } else if (state == kWriting) {
        state = kReading;
        stream->Read(&echo, this);
      } else if (lap()) {
        state = kWriting;
        stream->Write(message, this);
      } else {
        state = kClosing;
        stream->WritesDone(this);
      }
    }

    std::function<bool()> lap;
    enum { kWriting, kReading, kClosing, kFinishing } state;
    Echo message, echo;
    std::unique_ptr<grpc::ClientAsyncReaderWriter<Echo, Echo>> stream;
  };

  template <typename Kind>
  std::vector<std::unique_ptr<Kind>> make(const bench_work& work, const Connections& connections) {
    std::vector<std::unique_ptr<Kind>> made;
    for (int i = 0; i < work.concurrency; i++) {
      auto stream = std::make_unique<Kind>();
      stream->queue = &queue_;
      stream->stub = connections[i % connections.size()]->stub();
      stream->size = work.size;
      made.push_back(std::move(stream));
    }
    return made;
  }

  void streams(const std::string& kind, const bench_work& work, const Connections& connections,
               double seconds) {
    if (kind == "server_stream") return repeat(make<ServerStream>(work, connections), work, seconds);
    if (kind == "client_stream") return repeat(make<ClientStream>(work, connections), work, seconds);
    if (kind == "bidi") return repeat(make<Bidi>(work, connections), work, seconds);
    throw std::runtime_error("unknown kind of work: " + kind);
  }

  // Streams of equal length one after the other; long enough that opening one hardly counts.
  template <typename Kind>
  void repeat(std::vector<std::unique_ptr<Kind>> streams, const bench_work& work, double seconds) {
    uint64_t least = std::max<uint64_t>(20, std::min<uint64_t>(500, (1 << 20) / work.size) / streams.size());
    size_t running = streams.size();
    uint64_t begin = bench_now();
    for (auto& stream : streams) {
      stream->ended = [&] { running--; };
      stream->start(least);
    }
    while (running) step();
    uint64_t now = bench_now();
    double per_message = static_cast<double>(now - begin) / least;
    auto count = std::max(least, static_cast<uint64_t>(seconds * 1e9 / 3 / per_message));
    running = streams.size();
    result_->calls = least * running;  // of the measured CPU time, so of what is measured
    uint64_t end = now + static_cast<uint64_t>(seconds * 1e9);
    for (auto& stream : streams) {
      Kind* again = stream.get();
      stream->ended = [&, again] {
        result_->calls += count;
        if (bench_now() < end) {
          again->start(count);
        } else {
          running--;
        }
      };
      stream->start(count);
    }
    while (running) step();
    result_->elapsed_ns = bench_now() - begin;
  }

  void ping_pong(const bench_work& work, const Connections& connections, double seconds) {
    auto streams = make<PingPong>(work, connections);
    size_t running = streams.size();
    uint64_t begin = bench_now(), end = begin + static_cast<uint64_t>(seconds * 1e9);
    for (auto& stream : streams) {
      stream->ended = [&] { running--; };
      stream->lap = [this, end, started = uint64_t{0}]() mutable {
        uint64_t now = bench_now();
        if (started) {
          bench_record(&result_->latency, now - started);
          result_->calls++;
        }
        started = now;
        return now < end;
      };
      stream->start(0);
    }
    while (running) step();
    result_->elapsed_ns = bench_now() - begin;
  }

  void idle(const bench_work& work) {
    Connections connections;
    auto add = [&] {
      connections.push_back(std::make_unique<Connection>(endpoint_));
      bool finished = false;
      UnaryCall call(&queue_, connections.back()->stub(), work, &Bench::Stub::AsyncUnary);
      call.ended = [&](UnaryCall*) { finished = true; };
      call.start(1, 0);
      while (!finished) step();
    };
    for (int i = 0; i < work.connections; i++) add();
    uint64_t begin = bench_now();
    bench_event("begin");
    for (int i = 0; i < work.connections; i++) add();
    bench_event("end");
    result_->calls = work.connections;
    result_->elapsed_ns = bench_now() - begin;
    bench_print(result_.get());
  }

  void held(const bench_work& work) {
    Connection connection(endpoint_);
    std::vector<std::unique_ptr<UnaryCall>> calls;
    uint64_t ended = 0;
    auto hold = [&] {
      for (int i = 0; i < work.concurrency; i++) {
        calls.push_back(std::make_unique<UnaryCall>(&queue_, connection.stub(), work,
                                                    &Bench::Stub::AsyncHold));
        calls.back()->ended = [&](UnaryCall*) { ended++; };
        calls.back()->start(BENCH_HOLD_MILLISECONDS, 0);
      }
      step_until(bench_now() + BENCH_SETTLE_NS);
    };
    hold();
    bench_event("begin");
    hold();
    bench_event("end");
    result_->calls = work.concurrency;
    result_->elapsed_ns = BENCH_SETTLE_NS;
    result_->unanswered = ended;
    while (ended < calls.size()) step();
    bench_print(result_.get());
  }

  bench_endpoint endpoint_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<bench_result> result_;
};

}  // namespace

int main(int argc, char** argv) {
  Driver driver(bench_arguments(argc, argv));
  bench_work work;
  while (bench_read(&work)) {
    try {
      driver.measure(work);
    } catch (const std::exception& error) {
      bench_error(error.what());
      return 1;  // steps of the failed work may be pending: the runner starts a new process
    }
  }
}
