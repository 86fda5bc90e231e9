// Client is what the suite runs inside of a pod to make requests:
//
//	client URL [--method=NAME] [-H NAME:VALUE]... [--count=N]
//
// The scheme is http or grpc. Each answer is told in lines NAME=VALUE that the suite reads, and ends with an empty line.
// It never follows a redirect. The exit status is 1 if any request has got no answer.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

const (
	requestTimeout = 10 * time.Second
	// Requests of one `--count` in flight at a time.
	concurrency = 8
)

type call struct {
	target  *url.URL
	method  string
	headers [][2]string
	count   int
}

func main() {
	log.SetFlags(0)
	wanted, err := readArguments(os.Args[1:])
	if err != nil {
		log.Fatal(err)
	}
	send, done, err := sender(wanted)
	if err != nil {
		log.Fatal(err)
	}
	defer done()
	answers := make([]string, wanted.count)
	failures := make([]error, wanted.count)
	var running sync.WaitGroup
	slots := make(chan struct{}, concurrency)
	for i := range wanted.count {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
			defer cancel()
			answers[i], failures[i] = send(ctx)
		})
	}
	running.Wait()
	out := bufio.NewWriter(os.Stdout)
	for i, err := range failures {
		if err != nil {
			out.Flush()
			log.Fatalf("request %d: %v", i, err)
		}
		fmt.Fprintf(out, "%s\n", answers[i])
	}
	out.Flush()
}

func readArguments(words []string) (call, error) {
	read := call{method: http.MethodGet, count: 1}
	for at := 0; at < len(words); at++ {
		word := words[at]
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch {
		case name == "--method":
			read.method = value
		case name == "--count":
			read.count, err = strconv.Atoi(value)
		case word == "-H" && at+1 < len(words):
			at++
			header, text, _ := strings.Cut(words[at], ":")
			read.headers = append(read.headers, [2]string{header, strings.TrimSpace(text)})
		case read.target == nil:
			read.target, err = url.Parse(word)
		default:
			err = fmt.Errorf("cannot understand %q", word)
		}
		if err != nil {
			return call{}, err
		}
	}
	if read.target == nil {
		return call{}, fmt.Errorf("say which URL to call")
	}
	return read, nil
}

// sender answers how to make one request, and what to do after the last one.
func sender(wanted call) (send func(context.Context) (string, error), done func(), err error) {
	switch wanted.target.Scheme {
	case "http":
		transport := &http.Transport{MaxIdleConnsPerHost: concurrency}
		return func(ctx context.Context) (string, error) { return overHTTP(ctx, transport, wanted) },
			transport.CloseIdleConnections, nil
	case "grpc":
		connection, err := grpc.NewClient(wanted.target.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return nil, nil, err
		}
		client := pb.NewGrpcEchoClient(connection)
		return func(ctx context.Context) (string, error) { return overGRPC(ctx, client, wanted) },
			func() { connection.Close() }, nil
	}
	return nil, nil, fmt.Errorf("cannot call %s: the scheme is neither http nor grpc", wanted.target)
}

func overHTTP(ctx context.Context, transport *http.Transport, wanted call) (string, error) {
	request, err := http.NewRequestWithContext(ctx, wanted.method, wanted.target.String(), nil)
	if err != nil {
		return "", err
	}
	for _, header := range wanted.headers {
		if strings.EqualFold(header[0], "Host") {
			request.Host = header[1]
		} else {
			request.Header.Add(header[0], header[1])
		}
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return "", err
	}
	var told strings.Builder
	fmt.Fprintf(&told, "StatusCode=%d\n", answer.StatusCode)
	for name, values := range answer.Header {
		for _, value := range values {
			fmt.Fprintf(&told, "ResponseHeader=%s:%s\n", name, value)
		}
	}
	// Only what the echo server says is lines of this form.
	if strings.HasPrefix(string(body), "Hostname=") {
		told.Write(body)
	}
	return told.String(), nil
}

func overGRPC(ctx context.Context, client pb.GrpcEchoClient, wanted call) (string, error) {
	for _, header := range wanted.headers {
		ctx = metadata.AppendToOutgoingContext(ctx, header[0], header[1])
	}
	answer, err := client.Echo(ctx, &pb.EchoRequest{})
	if err != nil {
		return "", err
	}
	seen := answer.GetAssertions()
	var told strings.Builder
	// The suite wants the status of HTTP for gRPC too.
	fmt.Fprintf(&told, "StatusCode=%d\nHostname=%s\nHost=%s\n", http.StatusOK, seen.GetContext().GetPod(), seen.GetAuthority())
	for _, header := range seen.GetHeaders() {
		fmt.Fprintf(&told, "RequestHeader=%s:%s\n", header.GetKey(), header.GetValue())
	}
	return told.String(), nil
}
