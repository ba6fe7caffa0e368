// A server of DNS over QUIC (RFC 9250) and of DNS over HTTP/3 (RFC 8484) on quic-go, for tests.
//
// It answers every question of type A with 192.0.2.1, and all others with no data; or what another server says, asked by TCP.
// Once it listens it writes its two ports. With -plain it answers over UDP, too, in clear, so that one can see when it is up.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/lucas-clemente/quic-go"
	"github.com/lucas-clemente/quic-go/http3"
)

const (
	protocolError = 2
	maxMessage    = 65535
)

// Whom to ask by TCP; nobody where it is empty.
var forward = flag.String("forward", "", "the server to ask by TCP")

func ask(query []byte) ([]byte, error) {
	connection, err := net.Dial("tcp", *forward)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	length := []byte{byte(len(query) >> 8), byte(len(query))}
	if _, err = connection.Write(append(length, query...)); err != nil {
		return nil, err
	}
	if _, err = io.ReadFull(connection, length); err != nil {
		return nil, err
	}
	reply := make([]byte, binary.BigEndian.Uint16(length))
	_, err = io.ReadFull(connection, reply)
	return reply, err
}

func answer(query []byte) ([]byte, error) {
	if *forward != "" {
		return ask(query)
	}
	if len(query) < 12 || binary.BigEndian.Uint16(query[4:]) != 1 {
		return nil, errors.New("not one question")
	}
	end := 12
	for end < len(query) && query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5
	if end > len(query) {
		return nil, errors.New("the question is cut off")
	}
	reply := append([]byte{}, query[:end]...)
	reply[2], reply[3] = 0x80|query[2]&1, 0x80|query[3]&0x10
	copy(reply[6:12], make([]byte, 6))
	if binary.BigEndian.Uint16(query[end-4:]) == 1 {
		reply[7] = 1
		reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1)
	}
	return reply, nil
}

func serveStream(connection quic.Connection, stream quic.Stream) {
	framed, err := io.ReadAll(io.LimitReader(stream, maxMessage+3))
	if err != nil {
		return
	}
	if len(framed) < 2 || int(binary.BigEndian.Uint16(framed)) != len(framed)-2 || framed[2] != 0 || framed[3] != 0 {
		connection.CloseWithError(protocolError, "not one message with the ID 0")
		return
	}
	reply, err := answer(framed[2:])
	if err != nil {
		connection.CloseWithError(protocolError, err.Error())
		return
	}
	length := []byte{byte(len(reply) >> 8), byte(len(reply))}
	stream.Write(append(length, reply...))
	stream.Close()
}

func serveDoq(listener quic.EarlyListener) {
	for {
		connection, err := listener.Accept(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			for {
				stream, err := connection.AcceptStream(context.Background())
				if err != nil {
					return
				}
				go serveStream(connection, stream)
			}
		}()
	}
}

func serveHTTP(writer http.ResponseWriter, request *http.Request) {
	var query []byte
	var err error
	if request.Method == http.MethodPost {
		query, err = io.ReadAll(io.LimitReader(request.Body, maxMessage+1))
	} else {
		query, err = base64.RawURLEncoding.DecodeString(request.URL.Query().Get("dns"))
	}
	var reply []byte
	if err == nil {
		reply, err = answer(query)
	}
	if err != nil || request.URL.Path != "/dns-query" {
		http.Error(writer, "no query", http.StatusBadRequest)
		return
	}
	writer.Header().Set("content-type", "application/dns-message")
	writer.Header().Set("age", "7")
	writer.Write(reply)
}

func servePlain(port int) {
	socket, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		log.Fatal(err)
	}
	query := make([]byte, maxMessage)
	for {
		size, client, err := socket.ReadFrom(query)
		if err != nil {
			log.Fatal(err)
		}
		if reply, err := answer(query[:size]); err == nil {
			socket.WriteTo(reply, client)
		}
	}
}

func main() {
	certificate := flag.String("certificate", "", "chain in PEM")
	key := flag.String("key", "", "its key in PEM")
	clients := flag.String("clients", "", "the authority in PEM that clients must have a certificate of")
	streams := flag.Int64("streams", 100, "streams that a client may have under way")
	retry := flag.Bool("retry", false, "whether addresses are validated first")
	address := flag.String("address", "127.0.0.1", "where to listen")
	doqPort := flag.Int("doq", 0, "the port of DNS over QUIC, 0 for a free one")
	h3Port := flag.Int("h3", 0, "and of HTTP/3")
	plainPort := flag.Int("plain", 0, "the port where DNS is answered in clear, 0 for none")
	flag.Parse()

	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatal(err)
	}
	doq := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"doq"}, MinVersion: tls.VersionTLS13}
	if *clients != "" {
		pem, err := os.ReadFile(*clients)
		if err != nil {
			log.Fatal(err)
		}
		doq.ClientCAs = x509.NewCertPool()
		doq.ClientCAs.AppendCertsFromPEM(pem)
		doq.ClientAuth = tls.RequireAndVerifyClientCert
	}
	config := &quic.Config{MaxIncomingStreams: *streams}
	if *retry {
		config.RequireAddressValidation = func(net.Addr) bool { return true }
	}
	listener, err := quic.ListenAddrEarly(fmt.Sprintf("%s:%d", *address, *doqPort), doq, config)
	if err != nil {
		log.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", fmt.Sprintf("%s:%d", *address, *h3Port))
	if err != nil {
		log.Fatal(err)
	}
	h3 := &http3.Server{TLSConfig: http3.ConfigureTLSConfig(doq), QuicConfig: config, Handler: http.HandlerFunc(serveHTTP)}
	go serveDoq(listener)
	if *plainPort != 0 {
		go servePlain(*plainPort)
	}
	fmt.Println(listener.Addr().(*net.UDPAddr).Port, udp.LocalAddr().(*net.UDPAddr).Port)
	log.Fatal(h3.Serve(udp))
}
