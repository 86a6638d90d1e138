"""The graph of images, as the 2014 daemon's jobs showed it: an image's facts, the tar of one layer, a drawing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from shared.bus.handlers import Handlers
from shared.protocol import CollectGarbage, DrawImages, GetImage, NotFound, ReadImageLayer, TarLayer, Ticket
from shared.protocol.reference import familiar

if TYPE_CHECKING:
    from services.engine.engine import Engine

jobs: Handlers[Engine] = Handlers()

SHORT = 12
BOX = 'shape=box,fillcolor="paleturquoise",style="filled,rounded"'


@jobs.handles(GetImage)
def get(engine: Engine, job: GetImage) -> dict[str, str]:
    try:
        image = engine.images.find(job.image)
    except NotFound:
        return {}
    return {
        "Created": image.created,
        "Author": image.author,
        "Os": image.os,
        "Architecture": image.architecture,
        "DockerVersion": "",
        "Id": image.id,
        "Parent": image.parent,
    }


@jobs.handles(TarLayer)
async def tar_layer(engine: Engine, job: TarLayer) -> Ticket:
    image = engine.images.find(job.image)
    try:
        layer = image.layers[job.layer]
    except IndexError:
        raise NotFound(f"image {job.image} has {len(image.layers)} layers") from None
    return await engine.call(ReadImageLayer(digest=layer.digest))


@jobs.handles(CollectGarbage)
async def collect(engine: Engine, job: CollectGarbage) -> int:
    return await engine.graph.collect()


@jobs.handles(DrawImages)
def viz(engine: Engine, job: DrawImages) -> str:
    """Draw each layer once, with an edge from the one below it; images' names stand on their topmost layers."""
    edges: set[str] = set()
    names: dict[str, set[str]] = {}
    for image in engine.images:
        chain = [layer.removeprefix("sha256:")[:SHORT] for layer in image.chain_ids]
        edges |= {f' base -> "{bottom}" [style=invis]' for bottom in chain[:1]}
        edges |= {f' "{below}" -> "{above}"' for below, above in itertools.pairwise(chain)}
        for top in chain[-1:]:
            names.setdefault(top, set()).update(familiar(name) for name in engine.images.tags(image.id))
    boxes = [
        ' "{}" [label="{}",{}];'.format(layer, "\\n".join([layer, *sorted(found)]), BOX)
        for layer, found in sorted(names.items())
    ]
    return "\n".join(["digraph docker {", *sorted(edges), *boxes, " base [style=invisible]", "}"])
