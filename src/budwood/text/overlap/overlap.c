/* N-grams of a text that stand in an index. Whole numbers only: units.py and index.py give the same results. */

#include <stdint.h>
#include <stdlib.h>

#define SHORT 8
#define LONG 13
#define BARRIER 0x1E
#define SLOTS 1024

static const uint64_t BYTE = 0x9E3779B97F4A7C15ull, UNIT = 0xD6E8FEB86659FD93ull, SALT = 0x2545F4914F6CDD1Dull;

enum { APART, LETTER, ALONE };

static inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

/* `ranges`: pairs of first and last code point, `apart` of them that part words, then `alone` that are units by themselves. */
typedef struct {
    const uint32_t *ranges;
    long apart, alone;
} Script;

static int kind_of(const Script *script, uint32_t point) {
    const uint32_t *range = script->ranges;
    for (long i = 0; i < script->apart + script->alone; i++, range += 2)
        if (point >= range[0] && point <= range[1]) return i < script->apart ? APART : ALONE;
    return LETTER;
}

static inline int is_plain(uint8_t byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z');
}

/* Hash the units of UTF-8 text: words, and single characters of scripts without spaces. `units` has room for `size` of them. */
long overlap_units(const Script *script, const uint8_t *text, long size, uint64_t *units) {
    long count = 0, at = 0;
    uint64_t word = 0;
    int inside = 0;
    while (at < size) {
        uint32_t point = text[at];
        long length = point < 0x80 ? 1 : point < 0xE0 ? 2 : point < 0xF0 ? 3 : 4;
        int kind = is_plain(text[at]) ? LETTER : APART;
        if (length > 1) {
            point &= 0x7F >> length;
            for (long k = 1; k < length && at + k < size; k++) point = point << 6 | (text[at + k] & 0x3F);
            kind = kind_of(script, point);
        }
        if (inside && kind != LETTER) units[count++] = mix(word), word = 0, inside = 0;
        if (kind != APART) {
            for (long k = 0; k < length && at + k < size; k++) word = word * BYTE + text[at + k] + 1;
            inside = 1;
        }
        if (kind == ALONE) units[count++] = mix(word), word = 0, inside = 0;
        at += length;
    }
    if (inside) units[count++] = mix(word);
    return count;
}

typedef struct {
    long count, shift;
    const uint64_t *hash;        /* (count,), ascending */
    const int64_t *start;        /* (count + 1,): where an n-gram's places begin */
    const int32_t *text, *place; /* in which text, at which unit */
    const uint64_t *bits;        /* bit `hash >> shift` is set for every hash: most n-grams are done with here */
} Grams;

typedef struct {
    int32_t *pairs; /* text and place, in turn; place -1 where a long n-gram stands */
    long room, count;
} Found;

static void look_up(const Grams *grams, uint64_t hash, int is_long, Found *found) {
    uint64_t bit = hash >> grams->shift;
    if (!(grams->bits[bit >> 6] >> (bit & 63) & 1)) return;
    long low = 0, high = grams->count;
    while (low < high) {
        long middle = (low + high) / 2;
        if (grams->hash[middle] < hash)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == grams->count || grams->hash[low] != hash) return;
    for (int64_t i = grams->start[low]; i < grams->start[low + 1]; i++, found->count++) {
        if (found->count >= found->room) continue;
        found->pairs[2 * found->count] = grams->text[i];
        found->pairs[2 * found->count + 1] = is_long ? -1 : grams->place[i];
    }
}

/* Find where the n-grams of a text stand; no n-gram spans a `BARRIER`. The number of pairs found may pass `room`: then only
   that many were written. -1: no memory. */
long overlap_find(const Script *script, const Grams *grams, const uint8_t *text, long size, int32_t *pairs, long room) {
    uint64_t small[1024], *units = size <= 1024 ? small : malloc(size * sizeof *units);
    if (!units) return -1;
    Found found = {pairs, room, 0};
    for (long begin = 0, end; begin < size; begin = end + 1) {
        for (end = begin; end < size && text[end] != BARRIER; end++)
            ;
        long count = overlap_units(script, text + begin, end - begin, units);
        for (long i = 0; i + SHORT <= count; i++) {
            uint64_t sum = SALT, power = 1;
            long k = i;
            for (; k < i + SHORT; k++, power *= UNIT) sum += units[k] * power;
            look_up(grams, mix(sum), 0, &found);
            if (i + LONG > count) continue;
            for (; k < i + LONG; k++, power *= UNIT) sum += units[k] * power;
            look_up(grams + 1, mix(sum), 1, &found);
        }
    }
    if (units != small) free(units);
    return found.count;
}

/* Whether ASCII text has more than `limit` different n-grams of 5 characters; -1: `limit` is more than this can tell. */
int overlap_passes(const uint8_t *text, long size, long limit) {
    uint64_t seen[SLOTS] = {0}, window = 0;
    if (limit > SLOTS / 2) return -1;
    for (long at = 0, count = 0; at < size; at++) {
        window = (window << 8 | text[at]) & 0xFFFFFFFFFFull;
        if (at < 4) continue;
        /* Plus one: a slot that holds 0 is free. */
        uint64_t slot = mix(window) % SLOTS;
        while (seen[slot] && seen[slot] != window + 1) slot = (slot + 1) % SLOTS;
        if (seen[slot]) continue;
        seen[slot] = window + 1;
        if (++count > limit) return 1;
    }
    return 0;
}
