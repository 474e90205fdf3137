// The Go standard library as a proxy that writes a credential: net/http/httputil's ReverseProxy, and a CONNECT that
// copies between the two sockets (io.Copy of two TCPConns splices in the kernel).
//
// Beyond defaults: as many idle links as nginx here may keep (net/http's Transport keeps 2 to a host otherwise), no
// decompression on the way, a BufferPool, and an access log that is buffered like nginx's.
package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"sync"
	"time"
)

type settings struct {
	Proxy, TLS, Origin, OriginTLS string
	Host, Credential              string
	OriginCA, Leaf, LeafKey, Log  string
}

// accessLog writes a line per request, in blocks; a timer flushes what waits.
type accessLog struct {
	mutex  sync.Mutex
	buffer *bufio.Writer
}

type accessLine struct {
	Time   string `json:"time"`
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	Status int    `json:"status"`
	Bytes  int64  `json:"bytesOut"`
}

func openLog(path string) *accessLog {
	file, err := os.Create(path)
	check(err)
	made := &accessLog{buffer: bufio.NewWriterSize(file, 64*1024)}
	go func() {
		for range time.Tick(time.Second) {
			made.mutex.Lock()
			made.buffer.Flush()
			made.mutex.Unlock()
		}
	}()
	return made
}

func (each *accessLog) write(line accessLine) {
	text, _ := json.Marshal(line)
	each.mutex.Lock()
	each.buffer.Write(append(text, '\n'))
	each.mutex.Unlock()
}

type bufferPool struct{ sync.Pool }

func (pool *bufferPool) Get() []byte       { return *pool.Pool.Get().(*[]byte) }
func (pool *bufferPool) Put(bytes []byte) { pool.Pool.Put(&bytes) }

func main() {
	var told settings
	text, err := os.ReadFile(os.Args[1])
	check(err)
	check(json.Unmarshal(text, &told))
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(told.OriginCA)
	check(err)
	roots.AppendCertsFromPEM(pem)

	requests := openLog(told.Log)
	authorization := "Bearer " + told.Credential
	buffers := &bufferPool{sync.Pool{New: func() any { made := make([]byte, 32*1024); return &made }}}
	reverse := func(scheme, origin string) http.Handler {
		return &httputil.ReverseProxy{
			Transport: &http.Transport{
				DialContext:         (&net.Dialer{}).DialContext,
				TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: told.Host},
				MaxIdleConnsPerHost: 256,
				IdleConnTimeout:     300 * time.Second,
				DisableCompression:  true,
			},
			BufferPool: buffers,
			Rewrite: func(each *httputil.ProxyRequest) {
				each.Out.URL.Scheme, each.Out.URL.Host = scheme, origin
				each.Out.Host = each.In.Host
				each.Out.Header.Del("Proxy-Authorization")
				each.Out.Header.Set("Authorization", authorization)
			},
			ModifyResponse: func(answer *http.Response) error {
				asked := answer.Request
				requests.write(accessLine{
					time.Now().Format(time.RFC3339), asked.Method, asked.Host, asked.URL.Path,
					answer.StatusCode, answer.ContentLength,
				})
				return nil
			},
		}
	}

	plain := reverse("http", told.Origin)
	proxy := http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		if request.Method == http.MethodConnect {
			connect(answer, request)
			return
		}
		plain.ServeHTTP(answer, request)
	})
	secure := &http.Server{
		Addr:    told.TLS,
		Handler: reverse("https", told.OriginTLS),
		// HTTP/1.1 alone, as everyone in these rows speaks it.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){},
	}
	go func() { log.Fatal(secure.ListenAndServeTLS(told.Leaf, told.LeafKey)) }()
	log.Fatal((&http.Server{Addr: told.Proxy, Handler: proxy}).ListenAndServe())
}

// connect passes bytes on between the client and where it asked for.
func connect(answer http.ResponseWriter, request *http.Request) {
	upstream, err := net.Dial("tcp", request.Host)
	if err != nil {
		http.Error(answer, "the destination cannot be reached", http.StatusBadGateway)
		return
	}
	client, _, err := answer.(http.Hijacker).Hijack()
	if err != nil {
		upstream.Close()
		return
	}
	io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	sent := make(chan struct{})
	go func() {
		pass(upstream, client)
		close(sent)
	}()
	pass(client, upstream)
	<-sent
	client.Close()
	upstream.Close()
}

func pass(to, from net.Conn) {
	io.Copy(to, from)
	to.(*net.TCPConn).CloseWrite()
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
