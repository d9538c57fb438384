"""The rows in flight: where each one's keys are, and the batch that makes the next token of all of them.

A row enters with the last token of its prompt; what is before that is its *prefix*, computed once for all
rows of the prompt. A row's own keys live in the arena of its padded length and move to the next one when it
outgrows that. Rows that finish leave at once, and the rows and tiles that remain close up.
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

# Matrix products round a row differently in batches of up to 11 rows (MKL, two threads); at multiples of 16
# no difference was found for 1 to 4 threads and for widths from 32 to 5,000.
_ROW_BUCKET = 16
_PREFILL_TOKENS = 2048  # at a time: more falls out of the cache
_KEEP_BYTES = 1 << 30  # empty arenas keep their memory until all arenas together have this much


@dataclass(slots=True, eq=False)
class Prefix:
    """A prompt without its last token, shared by its rows. `tiles` are its tiles in the next batch."""

    token_ids: tuple[int, ...]
    num_rows: int = 0
    num_placed: int = 0
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
    """What a step needs: the batch for the decoder, and what the sampler wants of its rows."""

    batch: DecodeBatch
    params: RowParams
    uniforms: Tensor  # [N], float64


@dataclass(slots=True)
class _SuffixView:
    """A suffix slice together with what makes its mask and uniforms for the step at hand."""

    arena: Arena[LiveRow]
    part: SuffixSlice
    columns: Tensor  # [num]: how many tokens of its own each row has


class Rows:
    """Rows in flight. `admit` some, then in turn: `next_input`, decode and sample, `advance`."""

    def __init__(self, decoder: Decoder, stop_finder: StopFinder) -> None:
        self._decoder, self._spec, self._stop_finder = decoder, decoder.spec, stop_finder
        self._device, self._dtype = decoder.weights.device, decoder.weights.dtype
        self._suffix_arenas: dict[int, Arena[LiveRow]] = {}
        self._prefix_arenas: dict[int, Arena[Prefix]] = {}
        self._prefixes: dict[tuple[int, ...], Prefix] = {}
        self._views: list[_SuffixView] | None = None
        self._input: StepInput | None = None
        self._last_position = 0  # of any row in the next batch
        self.num_rows = 0

    def admit(self, requests: Sequence[SampleRequest]) -> list[LiveRow]:
        """Put requests in flight; prompts that no row in flight has are computed here."""
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
        uniforms = [row.uniforms.take(arena.length) for row in rows]
        arena.append_empty(torch.stack(uniforms).to(self._device), rows)
        self.num_rows += len(rows)
        self._views = None
        return rows

    def next_input(self) -> StepInput:
        """The input that makes the next token of every row."""
        if self._views is None or self._input is None:
            self._views, self._input = self._lay_out()
        for view in self._views:
            rows = slice(view.part.start, view.part.start + view.part.num)
            extra = view.arena.extra[: view.part.num]
            self._input.uniforms[rows] = extra.gather(1, view.columns[:, None]).squeeze(1)
            view.part.mask = self._suffix_mask(view, None)
        if self._spec.window is not None and self._last_position >= self._spec.window:
            self._mask_windows(self._input.batch, self._views, self._spec.window)
        return self._input

    def advance(self, tokens: Tensor, token_ids: Sequence[int], logprobs: Sequence[float]) -> list[LiveRow]:
        """Give every row its token; returns the rows that finished with it, which are gone from here."""
        assert self._views is not None
        assert self._input is not None
        leaving = [self._give_tokens(view, token_ids, logprobs) for view in self._views]
        arenas = [view.arena for view in self._views]
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
        """Take a row in flight out before its end."""
        arena = next(arena for arena in self._suffix_arenas.values() if row in arena.owners)
        arena.remove([arena.owners.index(row)])
        row.prefix.num_rows -= 1
        self.num_rows -= 1
        self._views = None

    def clear(self) -> None:
        """Forget all rows and prompts, and what was computed for them."""
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
        """The slots of the rows that finished, and of those whose keys fill the arena."""
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
        """The same rows, one token later."""
        assert self._views is not None
        assert self._input is not None
        self._input.batch.tokens = tokens
        self._input.batch.positions += 1
        self._last_position += 1
        for view in self._views:
            view.columns += 1
            view.part.write_index += 1

    def _prefill(self, new: Mapping[tuple[int, ...], Prefix]) -> None:
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
        """Copy rows that fill their arena into the next longer one."""
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
        """Tiles for the rows of each prompt, a place for each row in them, and the batch of all rows."""
        self._release_memory()
        prefixes, num_tiles = self._lay_out_tiles()
        order: list[LiveRow | None] = []
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
        """Drop tiles that their prompt's rows don't fill any more, add those missing, and number the rest."""
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
            mask = arena.extra[:num].repeat_interleave(self._spec.num_kv_heads, dim=0).unsqueeze(1)
            slices.append(PrefixSlice(arena.kv, num_tiles, num, mask))
            num_tiles += num
        return slices, num_tiles

    def _drop_tiles(self, arena: Arena[Prefix]) -> list[int]:
        """Remove surplus tiles; returns, for each tile that is missing, a slot that it can be copied from."""
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
            prefix.num_placed = self._num_tiles(
                prefix
            )  # of a prompt's tiles the first one stands for the missing
        for prefix in arena.owners:
            prefix.num_placed = 0
        return missing

    def _places(self, order: Sequence[LiveRow | None], num_tiles: int) -> Tensor:
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
        pairs = torch.arange(num * heads, device=self._device) * arena.length
        write_index = pairs + own.repeat_interleave(heads)
        return _SuffixView(arena, SuffixSlice(arena.kv, start, num, write_index, torch.empty(0)), own)

    def _suffix_mask(self, view: _SuffixView, window: int | None) -> Tensor:
        ends = (view.columns + 1).repeat_interleave(self._spec.num_kv_heads)
        starts = None if window is None else ends - window
        return mask_between(starts, ends, view.arena.length, self._dtype).unsqueeze(1)

    def _mask_windows(self, batch: DecodeBatch, views: Sequence[_SuffixView], window: int) -> None:
        """The masks of windowed layers; while every row is within its window, those of all layers serve."""
        for view in views:
            view.part.window_mask = self._suffix_mask(view, window)
        heads, tile_rows = self._spec.num_kv_heads, self._decoder.tile_rows
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
