// Package bench is what benchmarks/work.py and benchmarks/histogram.py say, in Go.
package bench

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	Text             = "hello world"
	LargeBytes       = 64 << 20
	BurnMicroseconds = 20_000
	Deadline         = 60 * time.Second
	HoldMilliseconds = 8000
	Settle           = 2 * time.Second
	Tick             = time.Millisecond
	Drain            = 2 * time.Second
	// LostSeconds is how many seconds' calls in flight are too many: it has lost.
	LostSeconds = 0.25
)

// Endpoint says where a server listens and how.
type Endpoint struct {
	Address, TLS, Interceptor string
	Wide                      bool
}

func ParseEndpoint() Endpoint {
	var e Endpoint
	flag.StringVar(&e.Address, "address", "", "host:port or unix:/path")
	flag.StringVar(&e.TLS, "tls", "", "directory of ca.pem, cert.pem and key.pem")
	flag.StringVar(&e.Interceptor, "interceptor", "", "client or server")
	flag.BoolVar(&e.Wide, "wide", false, "500 more methods")
	flag.Parse()
	return e
}

// Work is one measurement.
type Work struct {
	Kind, Background               string
	Size, Concurrency, Connections int
	Metadata, Deadline             bool
	Seconds, Warmup                time.Duration
	Rate                           float64
}

// ReadWorks calls perform for each line of standard input and prints its result.
func ReadWorks(perform func(Work) (*Result, error)) {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		result, err := perform(parse(lines.Text()))
		if err != nil {
			write(map[string]string{"error": err.Error()})
		} else {
			write(result)
		}
	}
}

func parse(line string) Work {
	given := map[string]string{}
	for _, pair := range strings.Fields(line) {
		key, value, _ := strings.Cut(pair, "=")
		given[key] = value
	}
	number := func(key string) float64 {
		value, _ := strconv.ParseFloat(given[key], 64)
		return value
	}
	seconds := func(key string) time.Duration {
		return time.Duration(number(key) * float64(time.Second))
	}
	return Work{
		Kind:        given["kind"],
		Background:  given["background"],
		Size:        int(number("size")),
		Concurrency: int(number("concurrency")),
		Connections: int(number("connections")),
		Metadata:    given["metadata"] == "1",
		Deadline:    given["deadline"] == "1",
		Seconds:     seconds("seconds"),
		Warmup:      seconds("warmup"),
		Rate:        number("rate"),
	}
}

// Event tells the runner that a measurement begins or ends.
func Event(name string) { write(map[string]string{"event": name}) }

func write(value any) {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
}

// Histogram counts nanoseconds by bucket; see benchmarks/histogram.py.
type Histogram struct{ counts [4096]uint64 }

func (h *Histogram) Record(d time.Duration) {
	value := uint64(max(d, 0))
	shift := max(0, bits.Len64(value)-7)
	h.counts[uint64(shift)<<6+value>>shift]++
}

func (h *Histogram) Merge(other *Histogram) {
	for bucket, count := range other.counts {
		h.counts[bucket] += count
	}
}

func (h *Histogram) MarshalJSON() ([]byte, error) {
	counts := map[int]uint64{}
	for bucket, count := range h.counts {
		if count > 0 {
			counts[bucket] = count
		}
	}
	return json.Marshal(counts)
}

// Result of a measurement. Workers fill in one each and add it to the common one.
type Result struct {
	Calls      int       `json:"calls"`
	Seconds    float64   `json:"seconds"`
	Latency    Histogram `json:"latency"`
	Lateness   Histogram `json:"lateness"`
	Background int       `json:"background"`
	Unanswered int       `json:"unanswered"`

	mutex sync.Mutex
}

func (r *Result) Add(calls int, latency *Histogram) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Calls += calls
	r.Latency.Merge(latency)
}

// Payload has the same bytes in every peer.
func Payload(size int) []byte {
	bytes := make([]byte, size)
	for i := range bytes {
		bytes[i] = byte(i)
	}
	return bytes
}
