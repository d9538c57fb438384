"""Check that a request can be sampled."""

from r1kit.errors import UserError
from r1kit.sampling.engine import SampleRequest
from r1kit.sampling.local.sampling import check_params


def check_request(request: SampleRequest, *, vocab_size: int, max_positions: int | None) -> None:
    """Raise `UserError` for an empty prompt, an out-of-range token id or parameter, or a request too long."""
    check_params(request.params)
    prompt = request.prompt_token_ids
    if not prompt:
        raise UserError(f"request {request.key} has an empty prompt; a prompt needs at least one token")
    for token_id in (min(prompt), max(prompt)):
        if not 0 <= token_id < vocab_size:
            raise UserError(
                f"request {request.key}: token id {token_id} is not in the vocabulary of {vocab_size}"
            )
    total = len(prompt) + request.params.max_tokens
    if max_positions is not None and total > max_positions:
        raise UserError(
            f"request {request.key}: {len(prompt)} prompt tokens and max_tokens {request.params.max_tokens} "
            f"make {total}, above the model's max_position_embeddings of {max_positions}; lower max_tokens"
        )
