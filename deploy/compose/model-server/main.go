// An example of a model server. It answers /predict, exports how it answered by version at /metrics, and asks itself a few
// times a second, so that a release has something to measure before anybody calls.
//
//	model-server            serves on :8080
//	model-server pack FILE  writes itself as an image archive, one image for each version, as `docker load` takes it
//
// VERSION is the version that it says it is. PORT and SELF_REQUESTS_PER_SECOND may be set; ERROR_RATE is the share of
// requests that fail, from 0 to 1.
package main

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "pack" {
		if err := packFile(os.Args[2]); err != nil {
			log.Fatal(err)
		}
		return
	}
	server := newServer(variable("VERSION", "unknown"), number("ERROR_RATE", 0))
	listener, err := net.Listen("tcp", ":"+variable("PORT", "8080"))
	if err != nil {
		log.Fatal(err)
	}
	go askItself(listener.Addr().(*net.TCPAddr).Port, number("SELF_REQUESTS_PER_SECOND", 5))
	log.Printf("version %s on %s", server.version, listener.Addr())
	log.Fatal(http.Serve(listener, server.routes()))
}

func variable(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}

func number(name string, otherwise float64) float64 {
	value, err := strconv.ParseFloat(variable(name, strconv.FormatFloat(otherwise, 'g', -1, 64)), 64)
	if err != nil {
		log.Fatalf("%s: %v", name, err)
	}
	return value
}

// How many requests were answered with each code, and how long that took in all.
type server struct {
	version   string
	errorRate float64
	mutex     sync.Mutex
	answered  map[int]uint64
	seconds   float64
}

func newServer(version string, errorRate float64) *server {
	return &server{version: version, errorRate: errorRate, answered: map[int]uint64{}}
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/predict", s.predict)
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		s.export(w)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	return mux
}

func (s *server) predict(w http.ResponseWriter, _ *http.Request) {
	begun := time.Now()
	code := http.StatusOK
	if rand.Float64() < s.errorRate {
		code = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	fmt.Fprintf(w, "{\"version\": %q, \"class\": \"cat\"}\n", s.version)
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.answered[code]++
	s.seconds += time.Since(begun).Seconds()
}

// The text format of Prometheus.
func (s *server) export(w io.Writer) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	codes := make([]int, 0, len(s.answered))
	var all uint64
	for code, count := range s.answered {
		codes = append(codes, code)
		all += count
	}
	sort.Ints(codes)
	fmt.Fprintln(w, "# HELP requests_total Requests answered, by version and code.\n# TYPE requests_total counter")
	for _, code := range codes {
		fmt.Fprintf(w, "requests_total{version=\"%s\",code=\"%d\"} %d\n", escaped(s.version), code, s.answered[code])
	}
	fmt.Fprintln(w, "# HELP request_duration_seconds Seconds to answer.\n# TYPE request_duration_seconds summary")
	fmt.Fprintf(w, "request_duration_seconds_sum{version=\"%s\"} %g\n", escaped(s.version), s.seconds)
	fmt.Fprintf(w, "request_duration_seconds_count{version=\"%s\"} %d\n", escaped(s.version), all)
}

func escaped(value string) string {
	return strings.NewReplacer("\\", "\\\\", "\"", "\\\"", "\n", "\\n").Replace(value)
}

func askItself(port int, perSecond float64) {
	if perSecond <= 0 {
		return
	}
	for range time.Tick(time.Duration(float64(time.Second) / perSecond)) {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/predict", port))
		if err != nil {
			log.Print(err)
			continue
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
}
