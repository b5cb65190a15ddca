/* Near-duplicate search: signatures of texts, and the walk that verifies candidates by true Jaccard.

   Texts are UTF-8, parted into units (words, or code points); a shingle is `SHINGLE` units in a row, or all of a shorter text.
   Everything is whole numbers but the last division, so that every machine and sign.py, walk.py give the same results. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PERMUTATIONS 128
#define SHINGLE 5
#define WORDS 0
#define CHARACTERS 1
#define BLOCK 32

enum { DONE = 0, NO_MEMORY = 1, NOT_READ = 2 };

static const uint64_t BYTE = 0x9E3779B97F4A7C15ull, UNIT = 0xD6E8FEB86659FD93ull, BAND = 0xA24BAED4963EE407ull;
static const uint64_t SALT[2] = {0x2545F4914F6CDD1Dull, 0x5851F42D4C957F2Dull};
static const uint32_t BIT = 0x9E3779B1u;

static inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

/* --- units and shingles --- */

typedef struct {
    const uint8_t *text;
    long kind, units, shingles, room;
    uint32_t *start, *end; /* of each unit, in bytes */
    uint64_t *unit, *hash; /* of each unit; of the shingle that begins with it */
} Shingles;

static int make_room(Shingles *s, long units) {
    if (units <= s->room) return 1;
    long room = units + units / 2 + 64;
    free(s->start), free(s->end), free(s->unit), free(s->hash);
    s->start = malloc(room * sizeof *s->start), s->end = malloc(room * sizeof *s->end);
    s->unit = malloc(room * sizeof *s->unit), s->hash = malloc(room * sizeof *s->hash);
    s->room = s->start && s->end && s->unit && s->hash ? room : 0;
    return s->room != 0;
}

static void drop_room(Shingles *s) { free(s->start), free(s->end), free(s->unit), free(s->hash); }

static void part_words(Shingles *s, long size) {
    const uint8_t *text = s->text;
    long at = 0, count = 0;
    while (at < size) {
        if (text[at] == ' ') {
            at++;
            continue;
        }
        uint64_t h = 0;
        s->start[count] = (uint32_t)at;
        for (; at < size && text[at] != ' '; at++) h = h * BYTE + text[at] + 1;
        s->end[count] = (uint32_t)at;
        s->unit[count++] = mix(h);
    }
    s->units = count;
}

static void part_characters(Shingles *s, long size) {
    const uint8_t *text = s->text;
    long at = 0, count = 0;
    while (at < size) {
        uint32_t lead = text[at], point = lead;
        long more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
        if (more) point = lead & (0x3F >> more);
        s->start[count] = (uint32_t)at++;
        for (; more > 0 && at < size; more--) point = point << 6 | (text[at++] & 0x3F);
        s->end[count] = (uint32_t)at;
        s->unit[count++] = (uint64_t)point + 1;
    }
    s->units = count;
}

static int part(Shingles *s, const uint8_t *text, long size, long kind) {
    if (!make_room(s, size + 1)) return 0;
    s->text = text, s->kind = kind;
    if (kind == WORDS)
        part_words(s, size);
    else
        part_characters(s, size);
    s->shingles = s->units < SHINGLE ? s->units > 0 : s->units - SHINGLE + 1;
    uint64_t power[SHINGLE] = {1};
    for (long k = 1; k < SHINGLE; k++) power[k] = power[k - 1] * UNIT;
    long whole = s->units < SHINGLE ? s->units : SHINGLE;
    for (long i = 0; i < s->shingles; i++) {
        uint64_t sum = SALT[kind];
        const uint64_t *unit = s->unit + i;
        if (whole == SHINGLE) /* of a known length, so that it is unrolled */
            for (long k = 0; k < SHINGLE; k++) sum += unit[k] * power[k];
        else
            for (long k = 0; k < whole; k++) sum += unit[k] * power[k];
        s->hash[i] = mix(sum);
    }
    return 1;
}

/* --- signatures --- */

static void sign(const Shingles *s, const uint32_t *a, const uint32_t *b, uint32_t *minima) {
    for (long from = 0; from < PERMUTATIONS; from += BLOCK) {
        uint32_t least[BLOCK], factor[BLOCK], shift[BLOCK];
        memcpy(factor, a + from, sizeof factor), memcpy(shift, b + from, sizeof shift);
        memset(least, 0xFF, sizeof least);
        for (long i = 0; i < s->shingles; i++) {
            uint32_t x = (uint32_t)(s->hash[i] >> 32);
            for (int k = 0; k < BLOCK; k++) {
                uint32_t y = x * factor[k] + shift[k];
                least[k] = y < least[k] ? y : least[k];
            }
        }
        memcpy(minima + from, least, sizeof least);
    }
}

static void shorten(const uint32_t *minima, long kind, long bands, long rows, uint32_t *keys, uint64_t *sketch) {
    for (long band = 0; band < bands; band++) {
        uint64_t sum = SALT[kind] * (uint64_t)(band + 1), power = 1;
        for (long k = 0; k < rows; k++, power *= BAND) sum += minima[band * rows + k] * power;
        keys[band] = (uint32_t)(mix(sum) >> 32);
    }
    sketch[0] = sketch[1] = 0;
    for (long k = 0; k < PERMUTATIONS; k++) sketch[k >> 6] |= (uint64_t)(minima[k] * BIT >> 31) << (k & 63);
}

/* Sign texts lying end to end: text i is `blob[ends[i] .. ends[i + 1]]`. Bit 0 of kinds[i] asks for an entry by words, bit 1
   for one by characters, in this order. keys: (entries, bands); sketches: (entries, 2). */
int near_sign(const uint8_t *blob, const int64_t *ends, const uint8_t *kinds, long count, const uint32_t *a, const uint32_t *b,
              long bands, long rows, uint32_t *keys, uint64_t *sketches) {
    Shingles s = {0};
    uint32_t minima[PERMUTATIONS];
    int outcome = DONE;
    for (long i = 0; i < count && outcome == DONE; i++) {
        for (long kind = WORDS; kind <= CHARACTERS; kind++) {
            if (!(kinds[i] >> kind & 1)) continue;
            if (!part(&s, blob + ends[i], ends[i + 1] - ends[i], kind)) {
                outcome = NO_MEMORY;
                break;
            }
            sign(&s, a, b, minima);
            shorten(minima, kind, bands, rows, keys, sketches);
            keys += bands, sketches += 2;
        }
    }
    drop_room(&s);
    return outcome;
}

/* --- true Jaccard --- */

typedef struct {
    Shingles of;
    uint32_t *slots; /* place of a shingle in `of`, plus one; 0 is free */
    uint32_t *stamp; /* which comparison has met it last, by place */
    long capacity, room, distinct;
} Set;

static int clear_set(Set *set) {
    long capacity = 64;
    while (capacity < 2 * set->of.shingles) capacity *= 2;
    if (capacity > set->room) {
        free(set->slots), free(set->stamp);
        set->slots = malloc(capacity * sizeof *set->slots), set->stamp = malloc(capacity * sizeof *set->stamp);
        set->room = set->slots && set->stamp ? capacity : 0;
        if (!set->room) return 0;
    }
    set->capacity = capacity, set->distinct = 0;
    memset(set->slots, 0, capacity * sizeof *set->slots);
    return 1;
}

static void drop_set(Set *set) { drop_room(&set->of), free(set->slots), free(set->stamp); }

static int same_bytes(const Shingles *p, long i, long k, const Shingles *q, long j, long l) {
    uint32_t size = p->end[k] - p->start[i];
    return q->end[l] - q->start[j] == size && !memcmp(p->text + p->start[i], q->text + q->start[j], size);
}

/* Equal hashes are not trusted: the bytes decide. Words one by one, since white space between them does not count. */
static int same(const Shingles *p, long i, const Shingles *q, long j) {
    long ours = p->units - i < SHINGLE ? p->units - i : SHINGLE, theirs = q->units - j < SHINGLE ? q->units - j : SHINGLE;
    if (ours != theirs) return 0;
    if (p->kind == CHARACTERS) return same_bytes(p, i, i + ours - 1, q, j, j + theirs - 1);
    for (long k = 0; k < ours; k++)
        if (!same_bytes(p, i + k, i + k, q, j + k, j + k)) return 0;
    return 1;
}

/* Where shingle j of q lies in the set, or where it would go. */
static uint32_t *slot_of(const Set *set, const Shingles *q, long j) {
    uint64_t at = q->hash[j] & (set->capacity - 1);
    while (set->slots[at]) {
        long i = set->slots[at] - 1;
        if (set->of.hash[i] == q->hash[j] && same(&set->of, i, q, j)) break;
        at = (at + 1) & (set->capacity - 1);
    }
    return set->slots + at;
}

static int fill_set(Set *set) {
    if (!clear_set(set)) return 0;
    for (long i = 0; i < set->of.shingles; i++) {
        uint32_t *slot = slot_of(set, &set->of, i);
        if (*slot) continue;
        *slot = (uint32_t)i + 1, set->stamp[i] = 0, set->distinct++;
    }
    return 1;
}

/* The similarity of two sets, or something below the threshold; `others` is filled along the way. */
static double compare(Set *set, Set *others, uint32_t stamp, double threshold) {
    long shared = 0;
    for (long j = 0; j < others->of.shingles; j++) {
        uint32_t *slot = slot_of(set, &others->of, j);
        if (*slot) {
            shared += set->stamp[*slot - 1] != stamp;
            set->stamp[*slot - 1] = stamp;
            continue;
        }
        slot = slot_of(others, &others->of, j);
        if (*slot) continue;
        *slot = (uint32_t)j + 1, others->distinct++;
        if ((double)set->distinct / (double)(set->distinct + others->distinct) < threshold) return -1.0;
    }
    long all = set->distinct + others->distinct;
    return all ? (double)shared / (double)all : 1.0;
}

/* --- the walk --- */

typedef struct {
    long bands, stride, longest, least;
    double threshold;
    const int32_t *owner;    /* (entries,): the text that an entry is of */
    const uint8_t *kind;     /* (entries,) */
    const uint64_t *sketch;  /* (entries, 2) */
    int32_t *link;           /* (bands, stride): the entry before with the same key, or -1 */
    const int32_t *first;    /* (texts + 1,): entries of a text */
    const uint8_t *is_short; /* (texts,) and so below */
    const uint64_t *meaning; /* (texts, 2) */
    const uint8_t *asks, *offers, *goes;
    const int64_t *member;
    int64_t *parent;
    uint8_t *gone;
    int32_t *seen, *twin;
    double *alike;
    int64_t *crowded;
    uint8_t *const *text; /* where `read` puts texts: its own, the other's */
} Walk;

typedef long (*Read)(long text, long slot);

typedef struct {
    Set ours[2], theirs;
    int filled[2];
    uint32_t stamp;
    int64_t *found;
    long count, room;
} Work;

static int64_t root(int64_t *parent, int64_t member) {
    while (parent[member] != member) member = parent[member] = parent[parent[member]];
    return member;
}

static int may_repeat(const Walk *w, long i, long j) {
    const uint64_t *ours = w->meaning + 2 * i, *theirs = w->meaning + 2 * j;
    return (w->asks[i] & w->offers[j]) && ours[0] == theirs[0] && ours[1] == theirs[1];
}

static int promising(const Walk *w, long i, long entry, long other) {
    long j = w->owner[other], kind = w->kind[entry];
    /* Two long texts are compared by words, and meet there. */
    if (kind == CHARACTERS && !w->is_short[i] && !w->is_short[j]) return 0;
    const uint64_t *ours = w->sketch + 2 * entry, *theirs = w->sketch + 2 * other;
    int equal = PERMUTATIONS - __builtin_popcountll(ours[0] ^ theirs[0]) - __builtin_popcountll(ours[1] ^ theirs[1]);
    if (equal < w->least) return 0;
    return may_repeat(w, i, j) || root(w->parent, w->member[i]) != root(w->parent, w->member[j]);
}

/* The next entry of a chain whose text is still in; the link is shortened to it. */
static int32_t next_in(const Walk *w, int32_t *link, int32_t entry) {
    int32_t next = link[entry];
    while (next >= 0 && w->gone[w->owner[next]]) next = link[next];
    return link[entry] = next;
}

static int collect(const Walk *w, long i, Work *work) {
    int crowded = 0;
    work->count = 0;
    for (int32_t entry = w->first[i]; entry < w->first[i + 1]; entry++)
        for (long band = 0; band < w->bands; band++) {
            int32_t *link = w->link + band * w->stride, other = next_in(w, link, entry);
            for (long step = 0; other >= 0; step++, other = next_in(w, link, other)) {
                if (step == w->longest) {
                    crowded = 1;
                    break;
                }
                long j = w->owner[other], kind = w->kind[entry];
                /* Once for each kind of entry: a text is met in several bands. */
                if (w->kind[other] != kind || w->seen[j] == 2 * i + kind) continue;
                w->seen[j] = (int32_t)(2 * i + kind);
                if (!promising(w, i, entry, other)) continue;
                if (work->count == work->room) {
                    long room = 2 * work->room + 64;
                    int64_t *found = realloc(work->found, room * sizeof *found);
                    if (!found) return 0;
                    work->found = found, work->room = room;
                }
                work->found[work->count++] = 2 * j + kind;
            }
        }
    *w->crowded += crowded;
    return 1;
}

static int ascending(const void *p, const void *q) {
    int64_t a = *(const int64_t *)p, b = *(const int64_t *)q;
    return (a > b) - (a < b);
}

static int load(const Walk *w, Read read, long text, long slot, long kind, Set *set) {
    long size = read(text, slot);
    if (size < 0) return NOT_READ;
    return part(&set->of, w->text[slot], size, kind) ? DONE : NO_MEMORY;
}

static int verify(const Walk *w, Read read, long i, long j, long kind, Work *work, double *alike) {
    int outcome = DONE;
    Set *ours = work->ours + kind;
    if (!work->filled[kind]) {
        /* A slot for each kind: the set points into its text. */
        if ((outcome = load(w, read, i, kind, kind, ours)) != DONE) return outcome;
        if (!fill_set(ours)) return NO_MEMORY;
        work->filled[kind] = 1;
    }
    if ((outcome = load(w, read, j, 2, kind, &work->theirs)) != DONE) return outcome;
    if (!clear_set(&work->theirs)) return NO_MEMORY;
    *alike = compare(ours, &work->theirs, ++work->stamp, w->threshold);
    return DONE;
}

static int look(const Walk *w, Read read, long i, Work *work) {
    if (!collect(w, i, work)) return NO_MEMORY;
    qsort(work->found, work->count, sizeof *work->found, ascending);
    work->filled[0] = work->filled[1] = 0;
    for (long k = 0; k < work->count; k++) {
        long j = work->found[k] / 2, kind = work->found[k] % 2;
        int64_t ours = root(w->parent, w->member[i]), theirs = root(w->parent, w->member[j]);
        int eligible = w->twin[i] < 0 && may_repeat(w, i, j);
        if (ours == theirs && !eligible) continue;
        double alike;
        int outcome = verify(w, read, i, j, kind, work, &alike);
        if (outcome != DONE) return outcome;
        if (alike < w->threshold) continue;
        w->parent[ours > theirs ? ours : theirs] = ours > theirs ? theirs : ours;
        if (eligible) w->twin[i] = (int32_t)j, w->alike[i] = alike;
    }
    if (w->twin[i] >= 0 && w->goes[i]) w->gone[i] = 1;
    return DONE;
}

int near_walk(const Walk *w, long start, long stop, Read read) {
    Work work = {0};
    int outcome = DONE;
    for (long i = start; i < stop && outcome == DONE; i++) outcome = look(w, read, i, &work);
    drop_set(work.ours), drop_set(work.ours + 1), drop_set(&work.theirs), free(work.found);
    return outcome;
}
