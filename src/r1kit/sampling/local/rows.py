"""The rows in flight: where each row's keys are, and the batch that computes all rows' next tokens.

A row enters with the last token of its prompt. The tokens before that are its *prefix*, which is prefilled
once for all rows of the prompt. A row's own keys are in the arena of its padded length; a row that outgrows
its arena moves to the next one. Finished rows leave immediately, and the others close the gaps.

Legend: N rows (padded), K key/value heads, L an arena's length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from r1kit.sampling.engine import SampleRequest
from r1kit.sampling.local.arena import Arena, padded_count, padded_length
from r1kit.sampling.local.decoder import DecodeBatch, Decoder, PrefixSlice, SuffixSlice
from r1kit.sampling.local.masks import mask_before, mask_between
from r1kit.sampling.local.sampling import RowParams, Uniforms
from r1kit.sampling.local.stops import Stop, StopFinder

# The number of rows is padded to a multiple of this. Matrix products round a row differently in batches of up
# to 11 rows (MKL, two threads); at multiples of 16 there was no difference for 1 to 4 threads and widths from
# 32 to 5,000.
_ROW_BUCKET = 16
_PREFILL_TOKENS = 2048  # per prefill: with more, activations fall out of the CPU cache
_KEEP_BYTES = 1 << 30  # empty arenas keep their memory until all arenas together exceed this


@dataclass(slots=True, eq=False)
class Prefix:
    """A prompt without its last token, shared by its rows. `tiles` are its tiles in the next batch."""

    token_ids: tuple[int, ...]
    num_rows: int = 0  # in flight
    num_placed: int = 0  # a counter while a batch is laid out: of tiles, then of rows
    tiles: list[int] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class LiveRow:
    """One request being sampled."""

    request: SampleRequest
    uniforms: Uniforms
    prefix: Prefix
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: Stop | None = None
    finished: bool = False


@dataclass(slots=True)
class StepInput:
    """One step's input: the decoder's batch, and the sampler's parameters and uniforms."""

    batch: DecodeBatch
    params: RowParams
    uniforms: Tensor  # [N], float64


@dataclass(slots=True)
class _SuffixView:
    """A suffix slice with what its mask and uniforms are computed from at each step."""

    arena: Arena[LiveRow]
    part: SuffixSlice
    columns: Tensor  # [num]: the number of tokens sampled for each row


class Rows:
    """Rows in flight. `admit` some, then repeat: `next_input`, decode and sample, `advance`."""

    def __init__(self, decoder: Decoder, stop_finder: StopFinder) -> None:
        self._decoder, self._spec, self._stop_finder = decoder, decoder.spec, stop_finder
        self._device, self._dtype = decoder.weights.device, decoder.weights.dtype
        self._suffix_arenas: dict[int, Arena[LiveRow]] = {}
        self._prefix_arenas: dict[int, Arena[Prefix]] = {}
        self._prefixes: dict[tuple[int, ...], Prefix] = {}
        self._views: list[_SuffixView] | None = None  # None: rows came or went, so lay out a new batch
        self._input: StepInput | None = None
        self._last_position = 0  # the largest position in the next batch
        self.num_rows = 0

    def admit(self, requests: Sequence[SampleRequest]) -> list[LiveRow]:
        """Put requests in flight, prefilling prompts that are not in the cache."""
        rows, new = [], {}
        for request in requests:
            token_ids = request.prompt_token_ids[:-1]
            prefix = self._prefixes.get(token_ids)
            if prefix is None:
                prefix = self._prefixes[token_ids] = new[token_ids] = Prefix(token_ids)
            prefix.num_rows += 1
            rows.append(LiveRow(request, Uniforms(request.seed), prefix))
        self._prefill(new)
        arena = self._suffix_arena(padded_length(1))
        # a row's uniforms are drawn ahead, one per position of its arena, and move with its keys
        uniforms = [row.uniforms.take(arena.length) for row in rows]
        arena.append_empty(torch.stack(uniforms).to(self._device), rows)
        self.num_rows += len(rows)
        self._views = None
        return rows

    def next_input(self) -> StepInput:
        """The input for computing every row's next token."""
        if self._views is None or self._input is None:
            self._views, self._input = self._lay_out()
        for view in self._views:
            rows = slice(view.part.start, view.part.start + view.part.num)
            extra = view.arena.extra[: view.part.num]
            # token t of a row uses uniform t of its stream, whatever else is in flight
            self._input.uniforms[rows] = extra.gather(1, view.columns[:, None]).squeeze(1)
            view.part.mask = self._suffix_mask(view, None)
        if self._spec.window is not None and self._last_position >= self._spec.window:
            self._mask_windows(self._input.batch, self._views, self._spec.window)
        return self._input

    def advance(self, tokens: Tensor, token_ids: Sequence[int], logprobs: Sequence[float]) -> list[LiveRow]:
        """Give every row its token; remove and return the rows that finished with it."""
        assert self._views is not None
        assert self._input is not None
        leaving = [self._give_tokens(view, token_ids, logprobs) for view in self._views]
        arenas = [view.arena for view in self._views]
        # Grow all arenas before removing from any: removal moves slots, and `leaving` holds slot numbers.
        # Rows that grow are appended to the next arena, whose earlier slots stay where they are.
        for arena, (_, grown) in zip(arenas, leaving, strict=True):
            if grown:
                self._grow(arena, grown)
        finished: list[LiveRow] = []
        for arena, (ended, grown) in zip(arenas, leaving, strict=True):
            finished.extend(arena.owners[slot] for slot in ended)
            if ended or grown:
                self._views = None
                arena.remove(ended + grown)
        for row in finished:
            row.prefix.num_rows -= 1
        self.num_rows -= len(finished)
        if self._views is not None:
            self._step_on(tokens)
        return finished

    def cancel(self, row: LiveRow) -> None:
        """Remove a row before it has finished."""
        arena = next(arena for arena in self._suffix_arenas.values() if row in arena.owners)
        arena.remove([arena.owners.index(row)])
        row.prefix.num_rows -= 1
        self.num_rows -= 1
        self._views = None

    def clear(self) -> None:
        """Drop all rows and prompts, and everything computed for them."""
        arenas: list[Arena[LiveRow] | Arena[Prefix]] = [
            *self._suffix_arenas.values(),
            *self._prefix_arenas.values(),
        ]
        for arena in arenas:
            arena.clear()
        self._prefixes.clear()
        self._views, self.num_rows = None, 0

    def _give_tokens(
        self, view: _SuffixView, token_ids: Sequence[int], logprobs: Sequence[float]
    ) -> tuple[list[int], list[int]]:
        """Append a slice's tokens; return the slots of rows that finished and of rows that fill the arena."""
        ended, grown = [], []
        start, length = view.part.start, view.arena.length
        for slot, row in enumerate(view.arena.owners):
            row.token_ids.append(token_ids[start + slot])
            row.logprobs.append(logprobs[start + slot])
            num = len(row.token_ids)
            row.stop = self._stop_finder.find(row.token_ids, row.request.params)
            if row.stop is not None or num == row.request.params.max_tokens:
                row.finished = True
                ended.append(slot)
            elif num == length:
                grown.append(slot)
        return ended, grown

    def _step_on(self, tokens: Tensor) -> None:
        """Advance the current batch by one token, without a new layout: the rows are the same."""
        assert self._views is not None
        assert self._input is not None
        self._input.batch.tokens = tokens
        self._input.batch.positions += 1
        self._last_position += 1
        for view in self._views:
            view.columns += 1
            view.part.write_index += 1

    def _prefill(self, new: Mapping[tuple[int, ...], Prefix]) -> None:
        # one padded length per prefill, so that a prompt's bits depend on its own length only
        by_length: dict[int, list[Prefix]] = {}
        for prefix in new.values():
            by_length.setdefault(padded_length(len(prefix.token_ids)), []).append(prefix)
        for length, prefixes in by_length.items():
            at_once = max(1, _PREFILL_TOKENS // length)
            for start in range(0, len(prefixes), at_once):
                self._prefill_some(prefixes[start : start + at_once], length)

    def _prefill_some(self, prefixes: Sequence[Prefix], length: int) -> None:
        lengths = torch.tensor([len(prefix.token_ids) for prefix in prefixes], device=self._device)
        padded = [(*prefix.token_ids, *([0] * (length - len(prefix.token_ids)))) for prefix in prefixes]
        kv = self._decoder.prefill(torch.tensor(padded, device=self._device))
        mask = mask_between(None, lengths, length, self._dtype)
        # a prompt with more rows than one tile holds gets several slots with the same keys
        tiles = [index for index, prefix in enumerate(prefixes) for _ in range(self._num_tiles(prefix))]
        index = torch.tensor(tiles, device=self._device)
        arena = self._prefix_arenas.get(length)
        if arena is None:
            arena = self._prefix_arenas[length] = Arena(kv, length=length, extra_dtype=self._dtype)
        arena.append(
            kv.index_select(2, index), mask.index_select(0, index), [prefixes[tile] for tile in tiles]
        )

    def _num_tiles(self, prefix: Prefix) -> int:
        return -(-prefix.num_rows // self._decoder.tile_rows)

    def _grow(self, arena: Arena[LiveRow], slots: Sequence[int]) -> None:
        """Copy rows that fill their arena into the next longer one, with the uniforms for its positions."""
        target = self._suffix_arena(padded_length(arena.length + 1))
        owners = [arena.owners[slot] for slot in slots]
        more = [row.uniforms.take(target.length - arena.length) for row in owners]
        kv, extra = arena.rows(slots)
        target.append(kv, torch.cat([extra, torch.stack(more).to(self._device)], dim=1), owners)

    def _suffix_arena(self, length: int) -> Arena[LiveRow]:
        arena = self._suffix_arenas.get(length)
        if arena is None:
            spec = self._spec
            shape = (spec.num_layers, 2, 0, spec.num_kv_heads, length, spec.head_dim)
            like = torch.empty(shape, dtype=self._dtype, device=self._device)
            arena = self._suffix_arenas[length] = Arena(like, length=length, extra_dtype=torch.float64)
        return arena

    def _lay_out(self) -> tuple[list[_SuffixView], StepInput]:
        """Lay out a batch of all rows: tiles for each prompt, and a place in them for each row."""
        self._release_memory()
        prefixes, num_tiles = self._lay_out_tiles()
        order: list[LiveRow | None] = []  # rows arena by arena; None is padding
        slices: list[tuple[Arena[LiveRow], int]] = []
        for _, arena in sorted(self._suffix_arenas.items()):
            if arena.owners:
                slices.append((arena, len(order)))
                order.extend(arena.owners)
                order.extend([None] * (padded_count(len(arena.owners)) - len(arena.owners)))
        order.extend([None] * (-len(order) % _ROW_BUCKET))

        columns = self._indices([0 if row is None else len(row.token_ids) for row in order])
        starts = self._indices([0 if row is None else len(row.prefix.token_ids) for row in order])
        last_tokens = [0 if row is None else _last_token(row) for row in order]
        views = [self._suffix_view(arena, start, columns) for arena, start in slices]
        positions = starts + columns
        self._last_position = int(positions.max())
        batch = DecodeBatch(
            tokens=self._indices(last_tokens),
            positions=positions,
            places=self._places(order, num_tiles),
            num_tiles=num_tiles,
            suffixes=[view.part for view in views],
            prefixes=prefixes,
        )
        params = RowParams.of([None if row is None else row.request.params for row in order], self._device)
        uniforms = torch.zeros(len(order), dtype=torch.float64, device=self._device)
        return views, StepInput(batch, params, uniforms)

    def _lay_out_tiles(self) -> tuple[list[PrefixSlice], int]:
        """Drop tiles that their prompt's rows no longer fill, add missing ones, and number all of them."""
        slices, num_tiles = [], 0
        for arena in self._prefix_arenas.values():
            missing = self._drop_tiles(arena)
            if missing:
                index = torch.tensor(missing, device=self._device)
                owners = [arena.owners[slot] for slot in missing]
                arena.append(arena.kv.index_select(2, index), arena.extra.index_select(0, index), owners)
            if not arena.owners:
                continue
            for slot, prefix in enumerate(arena.owners):
                prefix.tiles.append(num_tiles + slot)
            num = padded_count(len(arena.owners))
            # a prefix arena's `extra` is its slots' masks [num, L]; here [num * K, 1, L]
            mask = arena.extra[:num].repeat_interleave(self._spec.num_kv_heads, dim=0).unsqueeze(1)
            slices.append(PrefixSlice(arena.kv, num_tiles, num, mask))
            num_tiles += num
        return slices, num_tiles

    def _drop_tiles(self, arena: Arena[Prefix]) -> list[int]:
        """Remove surplus tiles; return, for each missing tile, a slot that it can be copied from."""
        surplus = []
        for prefix in arena.owners:
            prefix.tiles.clear()
            prefix.num_placed = 0
        for slot, prefix in enumerate(arena.owners):
            prefix.num_placed += 1
            if prefix.num_placed > self._num_tiles(prefix):
                surplus.append(slot)
                if not prefix.num_rows:
                    self._prefixes.pop(prefix.token_ids, None)
        arena.remove(surplus)
        missing = []
        for slot, prefix in enumerate(arena.owners):
            missing.extend([slot] * (self._num_tiles(prefix) - prefix.num_placed))
            # so that only the prompt's first tile asks for the missing ones
            prefix.num_placed = self._num_tiles(prefix)
        for prefix in arena.owners:
            prefix.num_placed = 0
        return missing

    def _places(self, order: Sequence[LiveRow | None], num_tiles: int) -> Tensor:
        # Tiles are [num_tiles + 1, K, tile_rows], flattened; the last one is for padding
        heads, tile_rows = self._spec.num_kv_heads, self._decoder.tile_rows
        places = []
        for row in order:
            if row is None:
                places.append(num_tiles * heads * tile_rows)
                continue
            tile, in_tile = divmod(row.prefix.num_placed, tile_rows)
            row.prefix.num_placed += 1
            places.append(row.prefix.tiles[tile] * heads * tile_rows + in_tile)
        per_head = torch.arange(heads, device=self._device) * tile_rows
        return (self._indices(places)[:, None] + per_head).view(-1)

    def _suffix_view(self, arena: Arena[LiveRow], start: int, columns: Tensor) -> _SuffixView:
        num, heads = padded_count(len(arena.owners)), self._spec.num_kv_heads
        own = columns[start : start + num].clone()
        # row (slot, head) of [num * K, L] begins at (slot * K + head) * L; the new key follows the row's own
        pairs = torch.arange(num * heads, device=self._device) * arena.length
        write_index = pairs + own.repeat_interleave(heads)
        return _SuffixView(arena, SuffixSlice(arena.kv, start, num, write_index, torch.empty(0)), own)

    def _suffix_mask(self, view: _SuffixView, window: int | None) -> Tensor:
        ends = (view.columns + 1).repeat_interleave(self._spec.num_kv_heads)  # + 1: the new key
        starts = None if window is None else ends - window
        return mask_between(starts, ends, view.arena.length, self._dtype).unsqueeze(1)

    def _mask_windows(self, batch: DecodeBatch, views: Sequence[_SuffixView], window: int) -> None:
        """Set the masks of windowed layers; before a row outgrows its window, the other masks serve."""
        for view in views:
            view.part.window_mask = self._suffix_mask(view, window)
        heads, tile_rows = self._spec.num_kv_heads, self._decoder.tile_rows
        # the first visible position of each place, in tile order; negative while the window covers everything
        starts = batch.positions.new_zeros((batch.num_tiles + 1) * heads * tile_rows)
        starts.index_copy_(0, batch.places, (batch.positions + 1 - window).repeat_interleave(heads))
        starts = starts.view(-1, tile_rows).repeat_interleave(self._spec.num_queries_per_kv, dim=1)
        for part in batch.prefixes:
            tiles = slice(part.start * heads, (part.start + part.num) * heads)
            part.window_mask = mask_before(part.mask, starts[tiles])

    def _release_memory(self) -> None:
        arenas: list[Arena[LiveRow] | Arena[Prefix]] = [
            *self._suffix_arenas.values(),
            *self._prefix_arenas.values(),
        ]
        if sum(arena.kv.nbytes for arena in arenas) <= _KEEP_BYTES:
            return
        self._suffix_arenas = {length: arena for length, arena in self._suffix_arenas.items() if arena.owners}
        self._prefix_arenas = {length: arena for length, arena in self._prefix_arenas.items() if arena.owners}

    def _indices(self, values: Sequence[int]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _last_token(row: LiveRow) -> int:
    return row.token_ids[-1] if row.token_ids else row.request.prompt_token_ids[-1]
