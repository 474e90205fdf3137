// Node's http-proxy as a proxy that writes a credential. Run by its path: `node node_proxy.cjs SETTINGS`.
//
// Beyond defaults, as its documentation advises: an agent with keep-alive (http-proxy opens a connection per request
// otherwise), as many links as nginx here may keep, and an access log that is written in blocks like nginx's.
'use strict'
const fs = require('node:fs')
const http = require('node:http')
const net = require('node:net')

const settings = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'))
const httpProxy = require(settings.library)

const lines = []
const log = fs.createWriteStream(settings.log)
setInterval(flush, 1000).unref()
function flush () {
  if (lines.length) log.write(lines.splice(0).join(''))
}

const proxy = httpProxy.createProxyServer({
  target: settings.origin,
  agent: new http.Agent({ keepAlive: true, maxSockets: 256, maxFreeSockets: 256, timeout: 300000 })
})
proxy.on('proxyReq', (asked) => {
  asked.removeHeader('proxy-authorization')
  asked.setHeader('authorization', settings.authorization)
})
proxy.on('proxyRes', (answer, request) => {
  lines.push(JSON.stringify({
    time: new Date().toISOString(),
    method: request.method,
    host: request.headers.host,
    path: request.url,
    status: answer.statusCode,
    bytesOut: Number(answer.headers['content-length'] ?? -1)
  }) + '\n')
  if (lines.length > 400) flush()
})
proxy.on('error', (error, request, answer) => {
  if (answer.writeHead && !answer.headersSent) answer.writeHead(502)
  answer.end()
})

const server = http.createServer({ keepAliveTimeout: 300000 }, (request, answer) => {
  // The request comes in absolute form, and an origin is asked in origin form.
  request.url = request.url.replace(/^http:\/\/[^/]*/, '')
  proxy.web(request, answer)
})
server.maxRequestsPerSocket = 0
server.on('connect', (request, client, head) => {
  const [host, port] = request.url.split(':')
  const upstream = net.connect(Number(port), host, () => {
    client.write('HTTP/1.1 200 Connection established\r\n\r\n')
    if (head.length) upstream.write(head)
    upstream.pipe(client)
    client.pipe(upstream)
  })
  upstream.on('error', () => client.destroy())
  client.on('error', () => upstream.destroy())
})
server.listen(settings.port, '127.0.0.1', 1024)
