// A client of DNS over QUIC (RFC 9250) and of DNS over HTTP/3 (RFC 8484) on quic-go, for tests.
//
// It sends the queries that it reads in hexadecimal, a line each, all at once, and writes the replies in their order, or the
// word "error" and why.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/lucas-clemente/quic-go"
	"github.com/lucas-clemente/quic-go/http3"
)

func overQuic(connection quic.Connection, query []byte) ([]byte, error) {
	stream, err := connection.OpenStreamSync(context.Background())
	if err != nil {
		return nil, err
	}
	length := []byte{byte(len(query) >> 8), byte(len(query))}
	if _, err = stream.Write(append(length, query...)); err != nil {
		return nil, err
	}
	stream.Close()
	reply, err := io.ReadAll(stream)
	if err == nil && (len(reply) < 2 || int(binary.BigEndian.Uint16(reply)) != len(reply)-2) {
		err = errors.New("not one message")
	}
	if err != nil {
		return nil, err
	}
	return reply[2:], nil
}

func overHTTP(client *http.Client, url string, query []byte) ([]byte, error) {
	response, err := client.Post(url, "application/dns-message", bytes.NewReader(query))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		return nil, errors.New(response.Status)
	}
	return io.ReadAll(response.Body)
}

func main() {
	address := flag.String("doq", "", "address and port of a server of DNS over QUIC")
	url := flag.String("url", "", "or the URL of one of DNS over HTTP/3")
	authority := flag.String("authority", "", "in PEM")
	certificate := flag.String("certificate", "", "our own, in PEM")
	key := flag.String("key", "", "its key")
	flag.Parse()

	pem, err := os.ReadFile(*authority)
	if err != nil {
		log.Fatal(err)
	}
	config := &tls.Config{RootCAs: x509.NewCertPool(), NextProtos: []string{"doq"}}
	config.RootCAs.AppendCertsFromPEM(pem)
	if *certificate != "" {
		pair, err := tls.LoadX509KeyPair(*certificate, *key)
		if err != nil {
			log.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	var ask func([]byte) ([]byte, error)
	limits := &quic.Config{MaxIdleTimeout: 10 * time.Second}
	if *url != "" {
		config.NextProtos = nil
		client := &http.Client{Transport: &http3.RoundTripper{TLSClientConfig: config, QuicConfig: limits}}
		ask = func(query []byte) ([]byte, error) { return overHTTP(client, *url, query) }
	} else {
		connection, err := quic.DialAddr(*address, config, limits)
		if err != nil {
			fmt.Println("error", err)
			return
		}
		defer connection.CloseWithError(0, "")
		ask = func(query []byte) ([]byte, error) { return overQuic(connection, query) }
	}
	var said []string
	var asking sync.WaitGroup
	var mutex sync.Mutex
	lines := bufio.NewScanner(os.Stdin)
	for number := 0; lines.Scan(); number++ {
		query, err := hex.DecodeString(lines.Text())
		if err != nil {
			log.Fatal(err)
		}
		mutex.Lock()
		said = append(said, "")
		mutex.Unlock()
		asking.Add(1)
		go func(number int) {
			defer asking.Done()
			reply, err := ask(query)
			mutex.Lock()
			defer mutex.Unlock()
			if err != nil {
				said[number] = "error " + err.Error()
			} else {
				said[number] = hex.EncodeToString(reply)
			}
		}(number)
	}
	asking.Wait()
	for _, line := range said {
		fmt.Println(line)
	}
}
