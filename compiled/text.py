"""Changes the text of a module so that mypyc makes fast code of it. It changes nothing that a history can show.

mypyc leaves the constructor of a dataclass to Python, which sets a frozen field by a call each. So each dataclass gets
a constructor as text, and is frozen no more: nothing in the product or the simulation sets a field of a frozen one.
"""

import ast

DAY = "DAY: Final = "
"""A final constant is compiled into the code; a history sets this one to the length of its own days."""


def compilable(text: str) -> str:
    """Return the text of a module as mypyc gets it."""
    lines = text.replace(f"\n{DAY}", "\nDAY = ").splitlines()
    for node in sorted(ast.walk(ast.parse(text)), key=lambda node: -getattr(node, "lineno", 0)):
        if isinstance(node, ast.ClassDef):
            for decorator in node.decorator_list:
                if ast.unparse(decorator).partition("(")[0] == "dataclass":
                    _spell_out(lines, node, decorator)
    return "\n".join(lines) + "\n"


def _spell_out(lines: list[str], node: ast.ClassDef, decorator: ast.expr) -> None:
    options = {word.arg: ast.unparse(word.value) for word in getattr(decorator, "keywords", ())}
    kept = ["init=False"]
    if "eq" in options:
        kept.append(f"eq={options['eq']}")
    if options.get("frozen") == "True":
        kept.append("unsafe_hash=True")
    fields = [field for field in node.body if isinstance(field, ast.AnnAssign)]
    if fields:
        behind = max(field.end_lineno or 0 for field in fields)
        lines[behind:behind] = _constructor(fields)
    lines[decorator.lineno - 1] = f"@dataclass({', '.join(kept)})"


def _constructor(fields: list[ast.AnnAssign]) -> list[str]:
    parameters, body = [], []
    for field in fields:
        name, kind = ast.unparse(field.target), ast.unparse(field.annotation)
        value = name
        default = "" if field.value is None else f" = {ast.unparse(field.value)}"
        if isinstance(field.value, ast.Call) and ast.unparse(field.value.func) == "field":
            options = {word.arg: word.value for word in field.value.keywords}
            if "default_factory" in options:
                kind, default = f"{kind} | None", " = None"
                value = f"{ast.unparse(options['default_factory'])}() if {name} is None else {name}"
            else:
                default = f" = {ast.unparse(options['default'])}"
        parameters.append(f"{name}: {kind}{default}")
        body.append(f"        self.{name} = {value}")
    return ["", f"    def __init__(self, {', '.join(parameters)}) -> None:", *body]
