"""``.. command-help:: fit``: what ``snmf fit --help`` prints, so that it is never out of date."""

from docutils import nodes
from docutils.parsers.rst import Directive

from snmf.cli.arguments import parser


class CommandHelp(Directive):
    required_arguments = 1

    def run(self):
        commands = next(a for a in parser()._actions if a.dest == "command").choices
        text = commands[self.arguments[0]].format_help()
        block = nodes.literal_block(text, text)
        block["language"] = "none"
        return [block]


def setup(app):
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
