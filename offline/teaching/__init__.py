"""How well signs taught by a few takes are recognised: what fewshot.py is made of."""
