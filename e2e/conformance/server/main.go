// Server is what the suite's echo pods run here: it answers over HTTP and gRPC with what it saw of the request, and
// greets over plain TCP.
//
// It takes the options of the image that it stands for, each repeatable:
//
//	--port=N  HTTP/1.1 and HTTP/2 without TLS    --grpc=N  gRPC    --tcp=N  plain TCP    --tls=N  this --port has TLS
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	pb "sigs.k8s.io/gateway-api/conformance/echo-basic/grpcechoserver"
)

// Without any option the image serves HTTP here.
const defaultPort = "8080"

func main() {
	ports := map[string][]string{}
	for _, argument := range os.Args[1:] {
		name, value, _ := strings.Cut(strings.TrimLeft(argument, "-"), "=")
		ports[name] = append(ports[name], value)
	}
	if len(ports["port"]) == 0 {
		ports["port"] = []string{defaultPort}
	}
	hostname, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	failed := make(chan error)
	for _, port := range ports["port"] {
		go func() { failed <- serveHTTP(port, slices.Contains(ports["tls"], port), hostname) }()
	}
	for _, port := range ports["grpc"] {
		go func() { failed <- serveGRPC(port, hostname) }()
	}
	for _, port := range ports["tcp"] {
		go func() { failed <- serveTCP(port, hostname) }()
	}
	log.Fatal(<-failed)
}

func serveHTTP(port string, withTLS bool, hostname string) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(withTLS)
	protocols.SetUnencryptedHTTP2(!withTLS)
	server := &http.Server{
		Addr:              ":" + port,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprintf(w, "Hostname=%s\nServicePort=%s\nHost=%s\nMethod=%s\nURL=%s\nProto=%s\n",
				hostname, port, r.Host, r.Method, r.RequestURI, r.Proto)
			for name, values := range r.Header {
				for _, value := range values {
					fmt.Fprintf(w, "RequestHeader=%s:%s\n", name, value)
				}
			}
		}),
	}
	if !withTLS {
		return server.ListenAndServe()
	}
	certificate, err := selfSigned(hostname)
	if err != nil {
		return err
	}
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	return server.ListenAndServeTLS("", "")
}

type echo struct {
	pb.UnimplementedGrpcEchoServer
	hostname string
}

func (e *echo) Echo(ctx context.Context, request *pb.EchoRequest) (*pb.EchoResponse, error) {
	seen := &pb.Assertions{
		FullyQualifiedMethod: pb.GrpcEcho_Echo_FullMethodName,
		Context:              &pb.Context{Pod: e.hostname},
	}
	received, _ := metadata.FromIncomingContext(ctx)
	for name, values := range received {
		for _, value := range values {
			if name == ":authority" {
				seen.Authority = value
			} else {
				seen.Headers = append(seen.Headers, &pb.Header{Key: name, Value: value})
			}
		}
	}
	return &pb.EchoResponse{Assertions: seen, Request: request}, nil
}

func serveGRPC(port, hostname string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	pb.RegisterGrpcEchoServer(server, &echo{hostname: hostname})
	return server.Serve(listener)
}

func serveTCP(port, hostname string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer connection.Close()
			fmt.Fprintf(connection, "Hostname=%s\n", hostname)
			_, _ = io.Copy(connection, connection)
		}()
	}
}

// selfSigned makes a certificate for one run: no test of the mesh profiles looks at it.
func selfSigned(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
