// gRPC C++ with its asynchronous API: one completion queue and the one thread that drains it, as
// is advised for one core.
#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <ctime>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>

#include "bench.h"
#include "echo.grpc.pb.h"

using benchmark::Bench;
using benchmark::Echo;
using benchmark::Flow;

namespace {

constexpr int kAccepting = 1000;  // unary calls that can arrive before one of them is handled

std::string payload(size_t size) {
  std::string bytes(size, '\0');
  for (size_t i = 0; i < size; i++) bytes[i] = static_cast<char>(i % 256);
  return bytes;
}

struct Server {
  Bench::AsyncService service;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;
};

// What a completion queue hands back: the next step of some call.
struct Step {
  virtual void done(bool ok) = 0;
  virtual ~Step() = default;
};

// Accepted, perhaps delayed, and answered. A call answered at once is then used for the next one;
// one that takes its time makes another to accept the next one meanwhile.
class UnaryCall : public Step {
 public:
  using Request = void (Bench::AsyncService::*)(grpc::ServerContext*, Echo*,
                                                grpc::ServerAsyncResponseWriter<Echo>*,
                                                grpc::CompletionQueue*,
                                                grpc::ServerCompletionQueue*, void*);
  enum Kind { kAtOnce, kHold, kBurn };

  UnaryCall(Server* server, Request request, Kind kind)
      : server_(server), request_(request), kind_(kind) {
    accept();
  }

  void done(bool ok) override {
    if (!ok && state_ == kAccepted) return;  // the server shuts down
    switch (state_) {
      case kAccepted:
        if (kind_ != kAtOnce) new UnaryCall(server_, request_, kind_);
        if (kind_ == kHold) {
          state_ = kDelayed;
          auto delay = std::chrono::milliseconds(echo_.number());
          alarm_.Set(server_->queue.get(), std::chrono::system_clock::now() + delay, this);
        } else if (kind_ == kBurn) {
          state_ = kAnswered;
          std::thread([this] {
            burn(echo_.number());
            writer_->Finish(echo_, grpc::Status::OK, this);
          }).detach();
        } else {
          answer();
        }
        break;
      case kDelayed:
        answer();
        break;
      case kAnswered:
        if (kind_ != kAtOnce) return delete this;
        accept();
        break;
    }
  }

 private:
  void accept() {
    state_ = kAccepted;
    writer_.reset();
    context_ = std::make_unique<grpc::ServerContext>();
    writer_ = std::make_unique<grpc::ServerAsyncResponseWriter<Echo>>(context_.get());
    auto* queue = server_->queue.get();
    (server_->service.*request_)(context_.get(), &echo_, writer_.get(), queue, queue, this);
  }

  void answer() {
    state_ = kAnswered;
    writer_->Finish(echo_, grpc::Status::OK, this);
  }

  static void burn(uint64_t microseconds) {
    timespec now;
    uint64_t end = 0;
    do {
      clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
      uint64_t spent = now.tv_sec * 1000000ull + now.tv_nsec / 1000;
      if (!end) end = spent + microseconds;
      if (spent >= end) return;
    } while (true);
  }

  Server* server_;
  Request request_;
  Kind kind_;
  enum { kAccepted, kDelayed, kAnswered } state_;
  Echo echo_;
  grpc::Alarm alarm_;
  std::unique_ptr<grpc::ServerContext> context_;
  std::unique_ptr<grpc::ServerAsyncResponseWriter<Echo>> writer_;
};

class ServerStreamCall : public Step {
 public:
  explicit ServerStreamCall(Server* server) : server_(server), writer_(&context_) {
    auto* queue = server_->queue.get();
    server_->service.RequestServerStream(&context_, &flow_, &writer_, queue, queue, this);
  }

  void done(bool ok) override {
    if (!accepted_ && ok) {
      accepted_ = true;
      new ServerStreamCall(server_);
      message_.set_payload(payload(flow_.size()));
    } else if (!ok || finished_) {
      delete this;
      return;
    }
    if (sent_ < flow_.count()) {
      grpc::WriteOptions options;  // the first message must not be buffered: it takes the headers
      if (sent_++) options.set_buffer_hint();
      writer_.Write(message_, options, this);
    } else {
      finished_ = true;
      writer_.Finish(grpc::Status::OK, this);
    }
  }

 private:
  Server* server_;
  grpc::ServerContext context_;
  grpc::ServerAsyncWriter<Echo> writer_;
  Flow flow_;
  Echo message_;
  uint64_t sent_ = 0;
  bool accepted_ = false, finished_ = false;
};

class ClientStreamCall : public Step {
 public:
  explicit ClientStreamCall(Server* server) : server_(server), reader_(&context_) {
    auto* queue = server_->queue.get();
    server_->service.RequestClientStream(&context_, &reader_, queue, queue, this);
  }

  void done(bool ok) override {
    if (!accepted_) {
      if (!ok) return delete this;
      accepted_ = true;
      new ClientStreamCall(server_);
      reader_.Read(&message_, this);
    } else if (finished_) {
      delete this;
    } else if (ok) {
      count_++;
      reader_.Read(&message_, this);
    } else {
      finished_ = true;
      Echo answer;
      answer.set_number(count_);
      reader_.Finish(answer, grpc::Status::OK, this);
    }
  }

 private:
  Server* server_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReader<Echo, Echo> reader_;
  Echo message_;
  uint64_t count_ = 0;
  bool accepted_ = false, finished_ = false;
};

// Reads a message, writes it back, reads the next one.
class BidiCall : public Step {
 public:
  explicit BidiCall(Server* server) : server_(server), stream_(&context_) {
    auto* queue = server_->queue.get();
    server_->service.RequestBidiStream(&context_, &stream_, queue, queue, this);
  }

  void done(bool ok) override {
    switch (state_) {
      case kAccepted:
        if (!ok) return delete this;
        new BidiCall(server_);
        read();
        break;
      case kReading:
        if (ok) {
          state_ = kWriting;
          stream_.Write(message_, this);
        } else {
          state_ = kFinishing;
          stream_.Finish(grpc::Status::OK, this);
        }
        break;
      case kWriting:
        if (!ok) return delete this;
        read();
        break;
      case kFinishing:
        delete this;
        break;
    }
  }

 private:
  void read() {
    state_ = kReading;
    stream_.Read(&message_, this);
  }

  Server* server_;
  grpc::ServerContext context_;
  grpc::ServerAsyncReaderWriter<Echo, Echo> stream_;
  Echo message_;
  enum { kAccepted, kReading, kWriting, kFinishing } state_ = kAccepted;
};

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

int main(int argc, char** argv) {
  bench_endpoint endpoint = bench_arguments(argc, argv);
  std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
  if (endpoint.tls) {
    std::string directory = std::string(endpoint.tls) + "/";
    grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs.push_back(
        {read_file(directory + "key.pem"), read_file(directory + "cert.pem")});
    credentials = grpc::SslServerCredentials(options);
  }
  Server server;
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(-1);
  builder.AddListeningPort(endpoint.address, credentials);
  builder.RegisterService(&server.service);
  server.queue = builder.AddCompletionQueue();
  std::unique_ptr<grpc::Server> running = builder.BuildAndStart();
  if (!running) return 1;
  for (int i = 0; i < kAccepting; i++)
    new UnaryCall(&server, &Bench::AsyncService::RequestUnary, UnaryCall::kAtOnce);
  new UnaryCall(&server, &Bench::AsyncService::RequestHold, UnaryCall::kHold);
  new UnaryCall(&server, &Bench::AsyncService::RequestBurn, UnaryCall::kBurn);
  new ServerStreamCall(&server);
  new ClientStreamCall(&server);
  new BidiCall(&server);
  void* tag;
  bool ok;
  while (server.queue->Next(&tag, &ok)) static_cast<Step*>(tag)->done(ok);
}
