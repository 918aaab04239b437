"""tokenizer.json of a SentencePiece vocabulary in a GGUF file, for Gemma.

GGUF keeps tokens, scores and types, but its converter overwrites those of user-defined pieces: their spaces are
written as spaces, their scores become -1000, many count as control tokens. Here they are what Gemma's
tokenizer.model says (spaces as U+2581, score 0), and the merges are made from the scores as transformers'
GemmaConverter makes them, so that ids equal those of the published tokenizer.json.
"""

SPACE = "\u2581"
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # SentencePiece's types
# What Gemma's tokenizer_config.json marks as special; <unusedN>, <mask> and markup are not.
SPECIAL = {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"}


def pieces(tokens, scores, types):
    """(token, score, type) as tokenizer.model has them."""
    result = []
    for token, score, kind in zip(tokens, scores, types, strict=True):
        if kind in (CONTROL, USER_DEFINED):
            result.append((token.replace(" ", SPACE), 0.0, kind))
        else:
            result.append((token, score, kind))
    if not any(token == "\t" for token, _, _ in result):  # Gemma 1 has no tab: its byte stands for it
        result = [("\t", 0.0, kind) if token == "<0x09>" else (token, score, kind) for token, score, kind in result]
    return result


def merges(pieces):
    """Every way to make a piece of two others; the best score first, then the longest parts."""
    ids = {token: i for i, (token, _, _) in enumerate(pieces)}
    found = []
    for token, score, _ in pieces:
        splits = [(token[:i], token[i:]) for i in range(1, len(token))]
        splits = [(left, right) for left, right in splits if left in ids and right in ids]
        found += [(score, *pair) for pair in sorted(splits, key=lambda pair: (ids[pair[0]], ids[pair[1]]))]
    found.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [[left, right] for _, left, right in found]


def added_tokens(pieces):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [{"id": i, "content": token, **flags, "special": token in SPECIAL}
            for i, (token, _, kind) in enumerate(pieces) if kind in (CONTROL, USER_DEFINED, UNKNOWN)]


def tokenizer(pieces, bos, unknown):
    token_of = lambda i: pieces[i][0]
    sequence = lambda name, kind: {"Sequence": {"id": name, "type_id": kind}}
    special = lambda kind: {"SpecialToken": {"id": token_of(bos), "type_id": kind}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added_tokens(pieces),
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special(0), sequence("A", 0)],
            "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
            "special_tokens": {token_of(bos): {"id": token_of(bos), "ids": [bos], "tokens": [token_of(bos)]}},
        },
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": token_of(unknown), "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
            "vocab": {token: i for i, (token, _, _) in enumerate(pieces)}, "merges": merges(pieces),
        },
    }
