// Preloaded into Node.js programs that only take a port: makes them listen on 127.0.0.1 instead of on every interface,
// and says on standard output which port it is, so that port 0 may be asked for.
//
// The step below listen() is wrapped, because a host given to listen() is looked up first, and programs that read their
// port right after listen() returns would find none.
'use strict';
const net = require('node:net');

const listen = net.Server.prototype._listen2;

net.Server.prototype._listen2 = function (address, port, addressType, ...rest) {
  if (typeof port !== 'number' || port < 0) return listen.call(this, address, port, addressType, ...rest);
  this.once('listening', () => process.stdout.write(`listening on ${this.address().port}\n`));
  return listen.call(this, '127.0.0.1', port, 4, ...rest);
};
