"""What attackers type where they hope that a template engine reads it: sixty expressions, and bombs.

Where one is executed, `EXECUTED` is in what comes out, or one of `SECRETS`.
"""

from __future__ import annotations

#: 1337 × 1337, as no headline has it.
EXECUTED = "1787569"
SECRETS = (
    "root:x:0",
    "/usr/local/bin",
    "a secret for tests",
    "&lt;Config ",
    "<Config ",
    "uid=0",
    "&lt;class ",
    "<class ",
)

_SUM = "1337*1337"
#: How the engines of the world mark an expression.
_BRACKETS = (
    *(
        "{{%s}}",
        "{{ %s }}",
        "{%% print(%s) %%}",
        "{%% if %s %%}{{%s}}{%% endif %%}",
        "${%s}",
        "#{%s}",
        "*{%s}",
        "@(%s)",
    ),
    *(
        "<%%= %s %%>",
        "{{= %s }}",
        "{{{%s}}}",
        "[[%s]]",
        "[=%s]",
        "{%s}",
        "~{%s}",
        "%%{%s}",
        "#set($x=%s)${x}",
        "{{-%s-}}",
    ),
    *("{# #}{{%s}}", "{%% set x = %s %%}{{x}}"),
)
#: What a sandbox has to refuse: ways from any value to everything (CVE-2016-10745, CVE-2019-8341, CVE-2024-56326,
#: CVE-2025-27516 and what listmonk, Mautic and Ghost have met).
_ESCAPES = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__base__']['__subclasses__']() }}",
    "{{ ''|attr('__class__') }}",
    "{{ ()|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ['x']|map(attribute='__class__')|list }}",
    "{{ ['{0.__class__}']|map('format', 'x')|list }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(config) }}",
    "{{ '{a.__class__}'|format_map({'a': 1}) }}",
    "{{ ''.format.__self__ }}",
    "{{ ('%s' * 3) % (config, request, self) }}",
    "{{ self.__init__.__globals__.__builtins__ }}",
    "{{ self._TemplateReference__context.cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os.environ }}",
    "{{ joiner.__init__.__globals__['os'].environ['SECRET_KEY'] }}",
    "{{ namespace.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].popen('cat /etc/passwd').read() }}",
    "{{ url_for.__globals__.current_app.config }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ request.application.__globals__ }}",
    "{{ config.items() }}",
    "{{ config.__class__.from_envvar.__globals__.import_string('os') }}",
    "{{ newsroom.__class__.__init__.__globals__ }}",
    "{{ t.gettext.__globals__ }}",
    "{{ t.gettext.__self__.__class__ }}",
    "{{ reader.address.__class__.__mro__ }}",
    "{{ _.__globals__ }}",
    "{{ update.__init__ }}",
    "{% for key in update.__class__.__subclasses__() %}{{ key }}{% endfor %}",
    "{% import 'os' as os %}{{ os.environ }}",
    "{% include '/etc/passwd' %}",
    "{% extends '../../../../etc/passwd' %}",
    "{% debug %}",
    "{% raw %}{{ 1337*1337 }}{% endraw %}{{ 1337*1337 }}",
    "{{ [].append.__self__.__class__.__base__.__subclasses__() }}",
    "{{ range.__class__.__mro__ }}",
    "{{ dict.__base__.__subclasses__() }}",
    '<mj-include path="/etc/passwd" />',
    "</mj-text><mj-raw>{{ 1337*1337 }}</mj-raw><mj-text>",
    '<#assign ex="freemarker.template.utility.Execute"?new()>${ ex("id") }',
    "{php}echo 1337*1337;{/php}",
)
TEMPLATE_INJECTIONS = (*(each % ((_SUM,) * each.count("%s")) for each in _BRACKETS), *_ESCAPES)

#: What a sandbox runs, and a machine does not survive (measured: Jinja's lets each of them run).
TEMPLATE_BOMBS = (
    "{{ 'x' * 10**9 }}",
    "{% for a in range(99999) %}{% for b in range(99999) %}{{ a * b }}{% endfor %}{% endfor %}",
    "{{ 9**9**9**9 }}",
    "{{ '%0999999999d' % 1 }}",
    "{{ 'x'|center(10**9) }}",
    "{{ [0] * 10**9 }}",
    "{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
    "{% set x = namespace(v='x') %}{% for n in range(99) %}{% set x.v = x.v * 9 %}{% endfor %}{{ x.v }}",
    "{{ range(99999)|map('string')|join(range(99999)|join) }}",
    "{{ lipsum(n=99999) }}",
)
