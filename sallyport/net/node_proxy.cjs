// Loaded by NODE_OPTIONS=--require for a Node that does not know NODE_USE_ENV_PROXY (before 22.21, and 23):
// http, https and fetch reach everything but NO_PROXY by CONNECT through HTTPS_PROXY. Does nothing in a newer one.
'use strict';

const [major, minor] = process.versions.node.split('.').map(Number);
const knowsEnvProxy = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
if (!knowsEnvProxy && process.env.HTTPS_PROXY) install(new URL(process.env.HTTPS_PROXY));

function install(proxy) {
  const http = require('node:http');
  const https = require('node:https');
  const net = require('node:net');
  const tls = require('node:tls');
  const direct = (process.env.NO_PROXY || '').split(',').map((name) => name.trim()).filter(Boolean);
  const authorization = proxy.password && 'Basic ' + Buffer.from(
    `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`).toString('base64');

  const toProxy = new http.Agent(); // the global one below would come back here

  const isDirect = (host) => direct.some((name) => host === name || `[${host}]` === name || host.endsWith(`.${name}`));

  // Calls back with a socket on which the bytes of host:port flow.
  function reach(host, port, done) {
    if (isDirect(host)) {
      const socket = net.connect({ host, port });
      socket.once('error', done);
      socket.once('connect', () => { socket.off('error', done); done(null, socket); });
      return;
    }
    const name = host.includes(':') ? `[${host}]` : host;
    const headers = { Host: `${name}:${port}` };
    if (authorization) headers['Proxy-Authorization'] = authorization;
    const request = http.request({
      host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: `${name}:${port}`, headers, agent: toProxy });
    request.once('connect', (answer, socket) => {
      if (answer.statusCode === 200) return done(null, socket);
      socket.destroy();
      done(new Error(`the proxy answered ${answer.statusCode} (${answer.headers['x-sallyport-error'] || 'no reason'})`));
    });
    request.once('response', (answer) => done(new Error(`the proxy answered ${answer.statusCode}`)));
    request.once('error', done);
    request.end();
  }

  function secure(options, socket, done) {
    const servername = options.servername || (net.isIP(options.host) ? '' : options.host);
    const secured = tls.connect({ ...options, socket, servername });
    secured.once('error', done);
    secured.once('secureConnect', () => { secured.off('error', done); done(null, secured); });
  }

  http.globalAgent = new (class extends http.Agent {
    createConnection(options, done) { reach(options.host, options.port, done); }
  })({ keepAlive: true });
  https.globalAgent = new (class extends https.Agent {
    createConnection(options, done) {
      reach(options.host, options.port, (error, socket) => (error ? done(error) : secure(options, socket, done)));
    }
  })({ keepAlive: true });

  // fetch is undici's; looking at Headers loads it, and its dispatcher then stands under this symbol.
  const slot = Symbol.for('undici.globalDispatcher.1');
  if (typeof Headers === 'undefined' || !globalThis[slot]) return;
  const Agent = globalThis[slot].constructor;
  globalThis[slot] = new Agent({
    connect({ hostname, port, protocol, servername }, done) {
      const host = hostname.replace(/^\[|\]$/g, '');
      reach(host, Number(port) || (protocol === 'https:' ? 443 : 80), (error, socket) => {
        if (error) return done(error, null);
        if (protocol !== 'https:') return done(null, socket);
        secure({ host, servername, ALPNProtocols: ['http/1.1'] }, socket, done);
      });
    },
  });
}
