// goproxy as a proxy that writes a credential, and passes what is CONNECTed on as bytes.
//
// Beyond defaults: as many idle links as nginx here
// may keep, no decompression on the way, and an access log that is buffered like nginx's. It takes no part in the rows
// with TLS: the version that Debian has answers an intercepted request with "Connection: close" and chunks.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
)

type settings struct {
	Proxy, Origin, Credential, Log string
}

type accessLine struct {
	Time   string `json:"time"`
	Method string `json:"method"`
	Host   string `json:"host"`
	Path   string `json:"path"`
	Status int    `json:"status"`
	Bytes  int64  `json:"bytesOut"`
}

func main() {
	var told settings
	text, err := os.ReadFile(os.Args[1])
	check(err)
	check(json.Unmarshal(text, &told))
	file, err := os.Create(told.Log)
	check(err)
	var mutex sync.Mutex
	buffer := bufio.NewWriterSize(file, 64*1024)
	go func() {
		for range time.Tick(time.Second) {
			mutex.Lock()
			buffer.Flush()
			mutex.Unlock()
		}
	}()

	proxy := goproxy.NewProxyHttpServer()
	dialer := &net.Dialer{}
	proxy.Tr = &http.Transport{
		// Every request of these rows is for one host, which is here.
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, told.Origin)
		},
		MaxIdleConnsPerHost: 256,
		IdleConnTimeout:     300 * time.Second,
		DisableCompression:  true,
	}
	proxy.ConnectDial = dialer.Dial
	authorization := "Bearer " + told.Credential
	proxy.OnRequest().DoFunc(func(request *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		request.Header.Set("Authorization", authorization)
		return request, nil
	})
	proxy.OnResponse().DoFunc(func(answer *http.Response, ctx *goproxy.ProxyCtx) *http.Response {
		if answer == nil {
			return nil
		}
		asked := ctx.Req
		line, _ := json.Marshal(accessLine{
			time.Now().Format(time.RFC3339), asked.Method, asked.Host, asked.URL.Path,
			answer.StatusCode, answer.ContentLength,
		})
		mutex.Lock()
		buffer.Write(append(line, '\n'))
		mutex.Unlock()
		return answer
	})
	log.Fatal(http.ListenAndServe(told.Proxy, proxy))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
