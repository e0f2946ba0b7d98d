// Preloaded into Node.js servers that only take a port: makes them listen on 127.0.0.1 instead of on every interface,
// and says on standard output which port it is, so that port 0 may be asked for.
'use strict';
const net = require('node:net');

const listen = net.Server.prototype.listen;
let chained = false;

net.Server.prototype.listen = function (...args) {
  if (chained) return listen.apply(this, args);
  const first = args[0];
  if (typeof first === 'number' || (typeof first === 'string' && /^\d+$/.test(first))) {
    const rest = args.slice(1).filter((value) => typeof value !== 'string');
    args = [{ port: Number(first), host: '127.0.0.1' }, ...rest.filter((value) => typeof value === 'function')];
  } else if (first && typeof first === 'object' && first.port !== undefined) {
    args = [{ ...first, host: '127.0.0.1' }, ...args.slice(1)];
  }
  this.once('listening', () => {
    const address = this.address();
    if (address && typeof address === 'object') process.stdout.write(`listening on ${address.port}\n`);
  });
  chained = true; // listen() calls itself with other arguments; those are ours already
  try {
    return listen.apply(this, args);
  } finally {
    chained = false;
  }
};
