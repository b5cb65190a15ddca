/* Keys of rows that are one ASCII question and its answer: normalised as text/normalise.py does, hashed as prepare/said.py and
   prepare/split.py do. Held to those by tests/prepare/test_keys.py. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DIGEST 16
#define BLOCK 128
#define KEYS 88 /* prompt, answer, turns, meaning, name; eight bytes of the spot */

/* --- BLAKE2b (RFC 7693), 16 bytes long --- */

static const uint64_t IV[8] = {0x6a09e667f3bcc908ull, 0xbb67ae8584caa73bull, 0x3c6ef372fe94f82bull, 0xa54ff53a5f1d36f1ull,
                               0x510e527fade682d1ull, 0x9b05688c2b3e6c1full, 0x1f83d9abfb41bd6bull, 0x5be0cd19137e2179ull};
static const uint8_t SIGMA[12][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0},
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3}};

static inline uint64_t load(const uint8_t *p) {
    uint64_t value = 0;
    for (int i = 7; i >= 0; i--) value = value << 8 | p[i];
    return value;
}

static inline void store(uint8_t *p, uint64_t value) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(value >> 8 * i);
}

static inline uint64_t turn(uint64_t x, int by) { return x >> by | x << (64 - by); }

#define MIX(a, b, c, d, x, y)                                                                                                \
    (v[a] += v[b] + m[x], v[d] = turn(v[d] ^ v[a], 32), v[c] += v[d], v[b] = turn(v[b] ^ v[c], 24), v[a] += v[b] + m[y],     \
     v[d] = turn(v[d] ^ v[a], 16), v[c] += v[d], v[b] = turn(v[b] ^ v[c], 63))

static void compress(uint64_t h[8], const uint8_t *block, uint64_t hashed, int last) {
    uint64_t v[16], m[16];
    for (int i = 0; i < 16; i++) m[i] = load(block + 8 * i);
    for (int i = 0; i < 8; i++) v[i] = h[i], v[i + 8] = IV[i];
    v[12] ^= hashed;
    if (last) v[14] = ~v[14];
#pragma GCC unroll 12
    for (int round = 0; round < 12; round++) {
        const uint8_t *s = SIGMA[round];
        MIX(0, 4, 8, 12, s[0], s[1]), MIX(1, 5, 9, 13, s[2], s[3]);
        MIX(2, 6, 10, 14, s[4], s[5]), MIX(3, 7, 11, 15, s[6], s[7]);
        MIX(0, 5, 10, 15, s[8], s[9]), MIX(1, 6, 11, 12, s[10], s[11]);
        MIX(2, 7, 8, 13, s[12], s[13]), MIX(3, 4, 9, 14, s[14], s[15]);
    }
    for (int i = 0; i < 8; i++) h[i] ^= v[i] ^ v[i + 8];
}

/* `person` is of 16 bytes, or NULL; a key of no bytes is none. */
static void digest(const uint8_t *data, long size, const uint8_t *key, long key_size, const uint8_t *person, uint8_t *out) {
    uint64_t h[8], hashed = 0;
    uint8_t block[BLOCK] = {0};
    memcpy(h, IV, sizeof h);
    h[0] ^= 0x01010000u ^ (uint64_t)key_size << 8 ^ DIGEST;
    if (person) h[6] ^= load(person), h[7] ^= load(person + 8);
    if (key_size) {
        memcpy(block, key, key_size);
        compress(h, block, hashed = BLOCK, !size);
    }
    for (; size > BLOCK; data += BLOCK, size -= BLOCK) compress(h, data, hashed += BLOCK, 0);
    if (size || !key_size) {
        memcpy(block, data, size), memset(block + size, 0, BLOCK - size);
        compress(h, block, hashed + size, 1);
    }
    store(out, h[0]), store(out + 8, h[1]);
}

/* --- rows --- */

static inline int is_space(uint8_t sign) { return sign == ' ' || (sign >= 9 && sign <= 13) || (sign >= 28 && sign <= 31); }

/* Fold case, and make one space of each run of white space, none around; gives the size. */
static long normalise(const uint8_t *text, long size, uint8_t *out) {
    long written = 0;
    for (long i = 0; i < size; i++) {
        uint8_t sign = text[i];
        if (!is_space(sign)) {
            out[written++] = sign >= 'A' && sign <= 'Z' ? sign + 32 : sign;
        } else if (written && out[written - 1] != ' ') {
            out[written++] = ' ';
        }
    }
    return written && out[written - 1] == ' ' ? written - 1 : written;
}

/* Question and answer of row i are texts 2i and 2i + 1: `blob[begins[k] .. ends[k]]`. turns: the questions, normalised, end to
   end, with room for all of the blob; turn_ends: (rows + 1,); keys: (rows, KEYS). 1: no memory. */
int keys_of_pairs(const uint8_t *blob, const int64_t *begins, const int64_t *ends, long rows, const uint8_t *seed, long seed_size,
                  uint8_t *turns, int64_t *turn_ends, uint8_t *keys) {
    static const uint8_t NAME[DIGEST] = "name", SPLIT[DIGEST] = "split";
    long longest = 0;
    for (long i = 0; i < 2 * rows; i++) longest = ends[i] - begins[i] > longest ? ends[i] - begins[i] : longest;
    uint8_t *text = malloc(longest + 2);
    if (!text) return 1;
    text[0] = 0x1F, text[1] = 0x1E;
    turn_ends[0] = 0;
    for (long i = 0; i < rows; i++, keys += KEYS) {
        uint8_t *prompt = keys, *answer = keys + 16, *turn_key = keys + 32, *meaning = keys + 48, *name = keys + 64;
        uint8_t spot[DIGEST];
        const int64_t *from = begins + 2 * i, *to = ends + 2 * i;
        long size = normalise(blob + from[0], to[0] - from[0], text + 2);
        memcpy(turns + turn_ends[i], text + 2, size);
        turn_ends[i + 1] = turn_ends[i] + size;
        digest(text, size + 2, NULL, 0, NULL, prompt);
        digest(text + 2, size, NULL, 0, NULL, turn_key);
        size = normalise(blob + from[1], to[1] - from[1], text + 2);
        digest(text + 2, size, NULL, 0, NULL, answer);
        digest(answer, DIGEST, NULL, 0, NULL, meaning);
        digest(prompt, DIGEST, seed, seed_size, NAME, name);
        digest(name, DIGEST, seed, seed_size, SPLIT, spot);
        memcpy(keys + 80, spot, 8);
    }
    free(text);
    return 0;
}
