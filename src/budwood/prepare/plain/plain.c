/* Lines of JSON that are one plain question and its answer: an object of strings, whole numbers, truth values and nulls, whose
   strings are printable ASCII with no other escapes than \" \\ \n \t, so that they are written back as they stand. A line that is
   anything else, or that may be, is left to Python. Held to it by tests/prepare/test_plain.py. */

#include <stdint.h>
#include <string.h>

#define KEYS 32    /* of an object */
#define LAYOUTS 64 /* different lists of slices in a piece */
#define DIGITS 18  /* of a whole number: what more has is left to Python */

typedef struct {
    const uint8_t *at;
    long size;
} Span;

/* Which keys say what. Lists are ended by an empty string. */
typedef struct {
    const char *asked, *answered;    /* or the key of the list of messages, and "" */
    const char *role, *content;      /* keys of a message */
    const char *users, *assistants;  /* lists of its roles */
    const char *empty;               /* list of keys that say nothing only where they hold "" or null */
    const char *strange;             /* list of keys that make a line none of ours */
    int64_t longest;                 /* bytes of a line */
} Names;

/* What is found; rows are numbered in their order, and lie end to end. */
typedef struct {
    int64_t *bounds;  /* (lines, 2): where each line begins and ends */
    int64_t *line;    /* (rows,): the line that a row stands on */
    uint8_t *said;    /* question, answer and the texts of its slices, parted by line feeds, unescaped */
    int64_t *said_at; /* (rows + 1,) */
    int64_t *sizes;   /* (rows, 2): bytes of question and answer */
    int64_t *raw;     /* (rows, 4): where question and answer begin and end in the data, as they are written */
    uint8_t *slices;  /* "name":value,"name":value */
    int64_t *slices_at; /* (rows + 1,) */
    int32_t *layout;    /* (rows,): rows of one number have the same slices */
} Found;

typedef struct {
    const uint8_t *at, *end;
} Cursor;

typedef struct {
    Span key, value;
    int is_text;
} Slice;

typedef struct {
    Span asked, answered, keys[KEYS];
    Slice slices[KEYS];
    long n_keys, n_slices;
} Row;

static void skip_space(Cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\r')) c->at++;
}

/* Step over a sign and the white space around it. */
static int take(Cursor *c, uint8_t sign) {
    skip_space(c);
    if (c->at == c->end || *c->at != sign) return 0;
    c->at++;
    skip_space(c);
    return 1;
}

/* A string from its opening quotation mark on; what stands between the marks. */
static int take_text(Cursor *c, Span *text) {
    if (c->at == c->end || *c->at != '"') return 0;
    const uint8_t *at = ++c->at;
    for (;; at++) {
        if (at == c->end || *at < 0x20 || *at > 0x7E) return 0;
        if (*at == '"') break;
        if (*at == '\\') {
            if (++at == c->end || !(*at == '"' || *at == '\\' || *at == 'n' || *at == 't')) return 0;
        }
    }
    text->at = c->at, text->size = at - c->at;
    c->at = at + 1;
    return 1;
}

static int is_named(Span text, const char *name) { return (long)strlen(name) == text.size && !memcmp(text.at, name, text.size); }

static int is_among(Span text, const char *names) {
    for (; *names; names += strlen(names) + 1)
        if (is_named(text, names)) return 1;
    return 0;
}

static int take_word(Cursor *c, const char *word, Span *value) {
    long size = (long)strlen(word);
    if (c->end - c->at < size || memcmp(c->at, word, size)) return 0;
    value->at = c->at, value->size = size;
    c->at += size;
    return 1;
}

/* A whole number as it is written in one way only: no leading zero, no minus zero, no exponent. */
static int take_number(Cursor *c, Span *value) {
    const uint8_t *at = c->at, *digits = at + (at < c->end && *at == '-');
    for (at = digits; at < c->end && *at >= '0' && *at <= '9'; at++) continue;
    long count = at - digits;
    if (!count || count > DIGITS || (*digits == '0' && (count > 1 || digits > c->at))) return 0;
    if (at < c->end && (*at == '.' || *at == 'e' || *at == 'E')) return 0;
    value->at = c->at, value->size = at - c->at;
    c->at = at;
    return 1;
}

static int take_slice(Cursor *c, Slice *slice) {
    slice->is_text = c->at < c->end && *c->at == '"';
    if (slice->is_text) return take_text(c, &slice->value);
    return take_word(c, "null", &slice->value) || take_word(c, "true", &slice->value) || take_word(c, "false", &slice->value) ||
           take_number(c, &slice->value);
}

static int take_nothing(Cursor *c) {
    Span text;
    return take_word(c, "null", &text) || (take_text(c, &text) && !text.size);
}

/* One message, {"role": …, "content": …} in either order, and nothing besides. */
static int take_message(Cursor *c, const Names *names, const char *roles, Span *content) {
    Span key, spoken = {0};
    int said = 0;
    if (!take(c, '{')) return 0;
    for (int k = 0; k < 2; k++) {
        if ((k && !take(c, ',')) || !take_text(c, &key) || !take(c, ':')) return 0;
        if (!said && is_named(key, names->content))
            said = take_text(c, content);
        else if (!spoken.at && is_named(key, names->role))
            spoken.at = take_text(c, &spoken) && is_among(spoken, roles) ? spoken.at : NULL;
        else
            return 0;
    }
    return said && spoken.at && take(c, '}');
}

static int is_new(Row *row, Span key) {
    if (row->n_keys == KEYS || !key.size || memchr(key.at, '\\', key.size)) return 0;
    for (long k = 0; k < row->n_keys; k++)
        if (row->keys[k].size == key.size && !memcmp(row->keys[k].at, key.at, key.size)) return 0;
    row->keys[row->n_keys++] = key;
    return 1;
}

static int take_row(Cursor *c, const Names *names, Row *row) {
    row->asked.at = row->answered.at = NULL, row->n_keys = row->n_slices = 0;
    if (!take(c, '{')) return 0;
    do {
        Span key;
        if (!take_text(c, &key) || !take(c, ':') || !is_new(row, key) || is_among(key, names->strange)) return 0;
        int taken;
        if (is_named(key, names->asked) && !*names->answered)
            taken = take(c, '[') && take_message(c, names, names->users, &row->asked) && take(c, ',') &&
                    take_message(c, names, names->assistants, &row->answered) && take(c, ']');
        else if (is_named(key, names->asked))
            taken = take_text(c, &row->asked);
        else if (is_named(key, names->answered))
            taken = take_text(c, &row->answered);
        else if (is_among(key, names->empty))
            taken = take_nothing(c);
        else
            row->slices[row->n_slices].key = key, taken = take_slice(c, row->slices + row->n_slices++);
        if (!taken) return 0;
    } while (take(c, ','));
    return take(c, '}') && c->at == c->end && row->asked.at && row->answered.at;
}

static long unescape(Span text, uint8_t *out) {
    if (!memchr(text.at, '\\', text.size)) {
        memcpy(out, text.at, text.size);
        return text.size;
    }
    long size = 0;
    for (long i = 0; i < text.size; i++) {
        uint8_t sign = text.at[i];
        if (sign == '\\') sign = text.at[++i], sign = sign == 'n' ? '\n' : sign == 't' ? '\t' : sign;
        out[size++] = sign;
    }
    return size;
}

static int is_blank(uint8_t sign) { return sign == ' ' || sign == '\n' || sign == '\t'; }

/* The text of a turn, which is not empty and has no white space around it; its size, or 0. */
static long say(Span text, uint8_t *out) {
    long size = unescape(text, out);
    return size && !is_blank(out[0]) && !is_blank(out[size - 1]) ? size : 0;
}

static int layout_of(const Row *row, Row *layouts, long *count) {
    for (long i = *count - 1; i >= 0; i--) {
        long k = 0;
        if (layouts[i].n_slices != row->n_slices) continue;
        for (; k < row->n_slices; k++) {
            Span ours = row->slices[k].key, theirs = layouts[i].slices[k].key;
            if (ours.size != theirs.size || memcmp(ours.at, theirs.at, ours.size)) break;
        }
        if (k == row->n_slices) return (int)i;
    }
    if (*count == LAYOUTS) return -1;
    layouts[*count] = *row;
    return (int)(*count)++;
}

static long write_slices(const Row *row, uint8_t *out) {
    uint8_t *at = out;
    for (long k = 0; k < row->n_slices; k++) {
        const Slice *slice = row->slices + k;
        if (k) *at++ = ',';
        *at++ = '"', memcpy(at, slice->key.at, slice->key.size), at += slice->key.size;
        *at++ = '"', *at++ = ':';
        /* With the marks around a text. */
        memcpy(at, slice->value.at - slice->is_text, slice->value.size + 2 * slice->is_text);
        at += slice->value.size + 2 * slice->is_text;
    }
    return at - out;
}

static int keep(const Row *row, const uint8_t *data, long n, Found *f) {
    uint8_t *said = f->said + f->said_at[n];
    long asked = say(row->asked, said), answered = asked ? say(row->answered, said + asked + 1) : 0;
    if (!answered) return 0;
    said[asked] = '\n';
    long size = asked + 1 + answered;
    for (long k = 0; k < row->n_slices; k++)
        if (row->slices[k].is_text) said[size++] = '\n', size += unescape(row->slices[k].value, said + size);
    f->sizes[2 * n] = asked, f->sizes[2 * n + 1] = answered;
    f->said_at[n + 1] = f->said_at[n] + size;
    f->slices_at[n + 1] = f->slices_at[n] + write_slices(row, f->slices + f->slices_at[n]);
    const Span turns[2] = {row->asked, row->answered};
    for (int k = 0; k < 2; k++)
        f->raw[4 * n + 2 * k] = turns[k].at - data, f->raw[4 * n + 2 * k + 1] = turns[k].at - data + turns[k].size;
    return 1;
}

/* Look through whole lines, as many as line feeds and one more; gives the number of rows. What is written takes no more room
   than the data: each text is written without its marks, and one sign behind it. */
long plain_rows(const uint8_t *data, long size, const Names *names, Found *f) {
    Row row, layouts[LAYOUTS];
    const uint8_t *at = data, *end = data + size;
    long rows = 0, layouts_met = 0;
    f->said_at[0] = f->slices_at[0] = 0;
    for (long line = 0; at <= end; line++) {
        const uint8_t *stop = at < end ? memchr(at, '\n', end - at) : NULL;
        if (!stop) stop = end;
        f->bounds[2 * line] = at - data, f->bounds[2 * line + 1] = stop - data;
        Cursor c = {at, stop};
        if (stop - at <= names->longest && take_row(&c, names, &row) && (f->layout[rows] = layout_of(&row, layouts, &layouts_met)) >= 0 &&
            keep(&row, data, rows, f))
            f->line[rows++] = line;
        at = stop + 1;
    }
    return rows;
}
