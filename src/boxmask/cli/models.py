"""`boxmask models`."""

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from boxmask.cli.printing import print_json


def models(*names: str, json: Annotated[bool, Parameter(negative=())] = False) -> int:
    """List the models, and how each trains: as published, and by default here.

    Names are made of an architecture and a backbone, such as condinst-lite0; any timm model that
    gives maps serves as a backbone: condinst-convnext_tiny. Behind a ResNet, -dcn makes its
    convolutions deformable; behind condinst, -bifpn takes that pyramid.

    Args:
        names: Models to say more about. Default: a list of all with a name of their own.
        json: Print JSON and nothing else.
    """
    from boxmask.recipes.catalogue import MODELS, NamedModel, model_facts
    from boxmask.recipes.schedules import SCHEDULES

    known = {model.name: model for model in MODELS}
    if not names and not json:
        width = max(map(len, known))
        for model in MODELS:
            print(f"{model.name:<{width}}  {model.title}")
        print("\nMore about one: boxmask models NAME. Train it: boxmask train DATA --model NAME")
        return 0
    chosen = [known.get(name, NamedModel(name=name, title=name)) for name in names] or MODELS
    facts = [model_facts(model) for model in chosen]
    if json:
        print_json([asdict(fact) for fact in facts])
        return 0
    lengths = "; ".join(f"{one.name} {one.steps} steps" for one in SCHEDULES.values())
    for fact in facts:
        print(f"{fact.model.name}  {fact.model.title}")
        print(f"  backbone   {fact.backbone}")
        print(f"  weights    {fact.parameters / 1e6:.1f} million with 80 classes")
        print(f"  here       {fact.training}")
        print(f"  published  {fact.model.published or '-'}")
        print(f"  --schedule short (as above), or as published, with 16 pictures a step: {lengths}")
    return 0
