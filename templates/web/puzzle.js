// The sum that a browser works out in a flood: a nonce with which a challenge's SHA-256 begins with zeros.
"use strict";

const CHUNK = 4000; // sums between two looks at the screen
const ZERO_BITS = 16;

// SHA-256 (FIPS 180-4) of a text in ASCII. Small, and quicker for thousands of short texts than asking the browser.
const K = new Uint32Array(64);
const START = new Uint32Array(8);
(() => {
  // The constants are the first bits of the roots of the first primes (FIPS 180-4 §4.2.2, §5.3.3).
  const fraction = (root) => ((root - Math.floor(root)) * 2 ** 32) >>> 0;
  let found = 0;
  for (let n = 2; found < 64; n += 1) {
    let prime = true;
    for (let d = 2; d * d <= n; d += 1) prime = prime && n % d !== 0;
    if (!prime) continue;
    if (found < 8) START[found] = fraction(Math.sqrt(n));
    K[found] = fraction(Math.cbrt(n));
    found += 1;
  }
})();
const W = new Uint32Array(64);

function turn(x, by) {
  return (x >>> by) | (x << (32 - by));
}

function block(state, bytes, from) {
  for (let i = 0; i < 16; i += 1) {
    const at = from + 4 * i;
    W[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
  }
  for (let i = 16; i < 64; i += 1) {
    const s0 = turn(W[i - 15], 7) ^ turn(W[i - 15], 18) ^ (W[i - 15] >>> 3);
    const s1 = turn(W[i - 2], 17) ^ turn(W[i - 2], 19) ^ (W[i - 2] >>> 10);
    W[i] = W[i - 16] + s0 + W[i - 7] + s1;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i += 1) {
    const one = (h + (turn(e, 6) ^ turn(e, 11) ^ turn(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + W[i]) | 0;
    const two = ((turn(a, 2) ^ turn(a, 13) ^ turn(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g; g = f; f = e; e = (d + one) | 0;
    d = c; c = b; b = a; a = (one + two) | 0;
  }
  state[0] += a; state[1] += b; state[2] += c; state[3] += d;
  state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

// The first 32 bits of the digest: more is not needed here.
function firstBits(text) {
  const bytes = new Uint8Array(((text.length + 72) >> 6) << 6);
  for (let i = 0; i < text.length; i += 1) bytes[i] = text.charCodeAt(i);
  bytes[text.length] = 0x80;
  new DataView(bytes.buffer).setUint32(bytes.length - 4, text.length * 8);
  const state = START.slice();
  for (let from = 0; from < bytes.length; from += 64) block(state, bytes, from);
  return state[0];
}

async function solve(challenge, progress) {
  for (let nonce = 0; ; nonce += 1) {
    if (firstBits(`${challenge}:${nonce}`) >>> (32 - ZERO_BITS) === 0) return String(nonce);
    if (nonce % CHUNK === CHUNK - 1) {
      progress(nonce / 2 ** ZERO_BITS);
      await new Promise((next) => setTimeout(next));
    }
  }
}
