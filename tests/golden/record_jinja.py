#!/usr/bin/env python3
"""Records what jinja2 with Hugging Face's settings makes of these templates.

    python3 tests/golden/record_jinja.py >tests/golden/jinja_cases.h

needs jinja2 3.1 (recorded with 3.1.6). A template that raises is recorded as
NULL; of raise_exception the words are kept too.  Each line is a template; what
the interpreter does otherwise on purpose (docs in engine/jinja.h) is left out.
"""
import datetime
import json

from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_body")
        return nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


class Raised(Exception):
    pass


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None,
           sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent,
                      separators=separators, sort_keys=sort_keys)


env = ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
env.filters["tojson"] = tojson
env.globals["raise_exception"] = raise_exception
env.globals["strftime_now"] = datetime.datetime(2024, 7, 26).strftime

VARIABLES = r'''{"m": [{"role": "user", "content": " Hé <b> "}, {"role": "assistant", "content": null, "n": 3, "f": 1.5, "tool_calls": [{"a": [1, 2, {"x": "y\n\"你"}]}]}], "s": "Hello, wORLD it's", "d": {"b": 1, "a": [1, 2], "items": "own"}, "n": 7, "none": null, "e": [], "t": true, "f": 0.1}'''
LINES = r'''
{{ 7//-2 }} {{ 7%-3 }} {{ -7//-2 }} {{ -6//2 }} {{ -6%3 }}
{% set a = [1] + [2] %}{% set b = a + [3] %}{% set c = a + [4] %}{{ a }}{{ b }}{{ c }}{{ b[:2] + [5] }}{{ b }}
{{ s|upper }}{{ s|lower }}{{ s|title }}{{ s|capitalize }}{{ s.title() }}{{ s.capitalize() }}
{{ s[1:4] }}|{{ s[::-1] }}|{{ s[-3:] }}|{{ s[:-3] }}|{{ s[10:2] }}|{{ s[100:] }}|{{ s[-100:3] }}|{{ s[::2] }}|{{ s[5:1:-2] }}
{{ [1,2,3,4][1:] }}{{ [1,2,3,4][::-2] }}{{ (1,2,3)[0:2] }}{{ [1,2,3][3:1:-1] }}{{ [1][-5::-1] }}
{{ 7/2 }} {{ 7//2 }} {{ -7//2 }} {{ 7%3 }} {{ -7%3 }} {{ 2**10 }} {{ 2**-1 }} {{ 1.5+2 }} {{ 3*'ab' }} {{ [1]*3 }} {{ 1e3 }} {{ 1e16 }} {{ 1e-5 }} {{ 0.0001 }} {{ 123456789.125 }} {{ 1/3 }} {{ 100000000000000000.0 }} {{ -0.0 }} {{ 5.0 }}
{{ -7.5%2 }} {{ 7.5//-2 }} {{ 10**15*1.0 }} {{ 1e15 }} {{ 123e20 }} {{ 2.5e-10 }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} {{ true == 1 }} {{ none == none }} {{ x == y }} {{ 'a' in 'cat' }} {{ 1 in [1,2] }} {{ 'b' in d }} {{ 'z' not in d }}
{{ x }}|{{ x is defined }}|{{ x is undefined }}|{{ m[0].zzz }}|{{ m[9] }}|{{ m[0].zzz is defined }}
{{ x.y }}
{{ x() }}
{{ x + 1 }}
{{ m[0].foo.bar }}
{{ none.foo }}|{{ none.foo.bar }}
{{ [x, none, true, 'a\'b', "a\"b'", 1.0, {'k': [()]}, (1,), 'é\n\x00\u200b'] }}
{{ d }} {{ m }}
{{ d|tojson }} {{ m|tojson(indent=2) }} {{ m|tojson(indent=0) }} {{ []|tojson(indent=4) }} {{ {}|tojson(indent=4) }} {{ '<>&\'é\x7f\u2028'|tojson }} {{ 'é🦙'|tojson(ensure_ascii=true) }} {{ d|tojson(sort_keys=true) }} {{ d|tojson(separators=(',',':')) }} {{ {1:2, none:3, true:4, 1.5:5}|tojson }} {{ 1e400|tojson }}
{{ x|tojson }}
{{ d.items()|list }} {{ d|items|list }} {{ d.keys()|list }} {{ d.values()|list }} {{ d['items'] }} {{ d.get('a') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d|dictsort }} {{ d|length }} {{ d|list }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for i in range(5) if i % 2 == 0 %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a','b') }} {% else %}none{% endfor %}
{% for i in [] %}x{% else %}empty{% endfor %}{% for i in undefinedthing %}x{% else %}empty{% endfor %}
{% for i in 5 %}{% endfor %}
{% for c in 'héy' %}[{{ c }}]{% endfor %}
{% for a, (b, c) in [(1,(2,3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for a, b in [1] %}{% endfor %}
{% set x = 1 %}{% for i in [1,2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% set ns = namespace(x=1, y=[]) %}{% for i in [1,2] %}{% set ns.x = ns.x + i %}{% set ns.y = ns.y + [i] %}{% endfor %}{{ ns.x }}{{ ns.y }}{{ ns.q is defined }}
{% set d.q = 1 %}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set t = 1, 2 %}{{ t }}
{% set t %}  x {{ n }} {% endset %}[{{ t }}]{% set u | upper | trim %} abc {% endset %}[{{ u }}]
{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}{% if not x is defined %}nd{% endif %}{% if not x %}nd{% endif %}
{% macro f(a, b=2, c='z') %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ f(1) }}|{{ f(1, c=3) }}|{{ f(b=1, a=2) }}|{{ f() }}|{{ f(1)|upper }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1,2) }}
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(5) }}
{% macro f() %}{{ caller() }}!{{ caller() }}{% endmacro %}{% call f() %}body{{ n }}{% endcall %}
{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{% endcall %}
{% filter upper %}abc{{ s }}{% endfilter %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% generation %}abc {{ n }}{% endgeneration %}
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% raw %}{{ x }}{% if %}{% endraw %}
{% raw -%}  {{ x }} {%- endraw %} a
{# comment {{ x }} #}a{#- c -#} b
{{ 'a' ~ 1 ~ none ~ true ~ x ~ 1.5 }}
{{ 'a' + 1 }}
{{ 'a' 'b' "c" }}{{ '\n\t\\\'\"\x41\u4f60\101\q' }}
{{ "x" if n > 5 else "y" }}{{ "x" if n < 5 }}|{{ ("x" if false).foo }}
{{ "x" if n > 5 else "y" if n > 3 else "z" }}
{{ 'a,b,,c'.split(',') }}{{ ' a  b c '.split() }}{{ 'a b c'.split(' ', 1) }}{{ 'a b  c d'.split(None, 1) }}{{ 'a-b-c'.rsplit('-', 1) }}{{ 'a\nb\r\nc\n'.splitlines() }}{{ ''.split(',') }}{{ ''.split() }}
{{ '  ab '.strip() }}|{{ '  ab '.lstrip() }}|{{ '  ab '.rstrip() }}|{{ 'xxabxx'.strip('x') }}|{{ 'xyabyx'.strip('xy') }}|{{ '\u00a0\u3000a\u2003'.strip() }}|{{ '   '.strip() }}|{{ '   '.lstrip() }}|{{ '   '.rstrip() }}|{{ 'xx'|trim('x') }}
{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x','c')) }}{{ 'abc'.replace('b','XX') }}{{ 'aaa'.replace('a','b',2) }}{{ 'abc'.replace('','-') }}{{ 'abc'|replace('c','d') }}{{ 'aaa'|replace('a','b',1) }}{{ 'abc'.find('c') }}{{ 'abc'.find('z') }}{{ 'aXbX'.count('X') }}{{ ','.join(['a','b']) }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}
{{ 'ab'.isdigit() }}{{ '12'.isdigit() }}{{ 'ab'.isalpha() }}{{ 'a1'.isalnum() }}{{ ' '.isspace() }}{{ 'AB'.lower() }}
{{ '{} {x} {{}}'.format(1, x='q') }}{{ '{0}{1}{0}'.format('a','b') }}{{ '%s-%d%%' % ('a', 3) }}{{ '%s' % 'q' }}{{ '%s %s'|format('a', 1) }}
{{ [3,1,2]|sort }}{{ [3,1,2]|sort(reverse=true) }}{{ ['b','A','c']|sort }}{{ ['b','A','c']|sort(case_sensitive=true) }}{{ [{'a':2},{'a':1}]|sort(attribute='a') }}
{{ [1,'a']|sort }}
{{ [1,1,2,'a','A']|unique|list }}{{ [1,2,3]|sum }}{{ [1,5,3]|max }}{{ [4,2]|min }}{{ []|max }}{{ [{'a':2},{'a':1}]|sum(attribute='a') }}{{ [{'a':2},{'a':1}]|map(attribute='a')|list }}{{ [{'a':2},{}]|map(attribute='a', default=9)|list }}{{ ['a','b']|map('upper')|join('-') }}{{ [1,2,3]|map('string')|list }}
{{ [1,2,3,4]|select('odd')|list }}{{ [1,2,3,4]|reject('odd')|list }}{{ [0,1,none]|select|list }}{{ m|selectattr('role','equalto','user')|list|length }}{{ m|rejectattr('role','==','user')|map(attribute='role')|list }}{{ m|selectattr('tool_calls')|list|length }}{{ m|selectattr('tool_calls','defined')|list|length }}
{{ [1,2]|first }}{{ [1,2]|last }}{{ []|first }}{{ 'abc'|first }}{{ 'abc'|last }}{{ 'abc'|reverse }}{{ [1,2]|reverse|list }}{{ 'abc'|list }}{{ [1,2]|join }}{{ [1,none,'a',x]|join(',') }}{{ 'abc'|length }}{{ 'hé'|length }}{{ x|length }}{{ m|join(',', attribute='role') }}
{{ 5|length }}
{{ x|default('d') }}{{ ''|default('d') }}{{ ''|default('d', true) }}{{ none|default('d') }}{{ none|d('e', boolean=true) }}{{ x|default }}
{{ '42'|int }}{{ '4.7'|int }}{{ 'x'|int }}{{ 'x'|int(5) }}{{ '0x1f'|int(base=16) }}{{ 3.9|int }}{{ none|int }}{{ ' 12 '|int }}{{ '1_000'|int }}{{ '1.5'|float }}{{ 'a'|float }}{{ '1e3'|float }}{{ true|int }}{{ 'inf'|float }}{{ '-5'|int }}{{ -3|abs }}{{ (-3)|abs }}{{ 2.5|round }}{{ 2.567|round(2) }}{{ 2.1|round(method='ceil') }}{{ 3|round }}
{{ x|int }}
{{ 'a <b> & "c" \'d\''|e }}{{ 'a'|safe }}{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb\n\nc'|indent(2, true) }}|{{ 'a\n\nb'|indent(2, blank=true) }}|{{ 'a\nb\n'|indent(1) }}|{{ 'a\nb'|indent('>') }}|{{ 'a b  c'|wordcount }}
{{ 1 is number }}{{ 1.0 is float }}{{ 1 is integer }}{{ true is boolean }}{{ true is number }}{{ true is integer }}{{ 'a' is string }}{{ d is mapping }}{{ m is sequence }}{{ d is sequence }}{{ d is iterable }}{{ 'a' is iterable }}{{ 1 is iterable }}{{ none is none }}{{ true is true }}{{ 1 is true }}{{ 3 is odd }}{{ 4 is even }}{{ 9 is divisibleby 3 }}{{ 9 is divisibleby(4) }}{{ 1 is eq 1 }}{{ 1 is in [1] }}{{ 1 is not in [1] }}{{ 'a' is lower }}{{ 'A' is upper }}{{ x is iterable }}{{ x is sequence }}{{ x is mapping }}{{ x is string }}{{ f is callable }}{{ range is callable }}{{ 5 is gt 3 }}{{ none is sameas none }}{{ 'a' is eq('a') }}
{{ not 1 is eq 1 }}{{ 1 is not none and 2 is not none }}{{ -1|abs }}{{ 2 ** 3 ** 2 }}{{ -2 ** 2 }}{{ 1 + 2 ~ 3 * 4 }}{{ not true or true }}{{ 1 or 2 }}{{ 0 or 'x' }}{{ 1 and 0 }}{{ '' and 1 }}
{{ range(3)|list }}{{ range(1,4)|list }}{{ range(5,0,-2)|list }}{{ range(0)|list }}{{ dict(a=1, b=2) }}{{ dict([('a',1)]) }}{{ dict({'q':1}, z=2) }}
{{ raise_exception('boo ' ~ n) }}
{{ strftime_now('%d %b %Y %A %B %H:%M:%S %j %y %m %-d %% %Y-%m-%d') }}
{{ 1, 2 }}{{ () }}{{ (1) }}{{ [1,] }}{{ {'a':1,} }}{{ {} }}{{ [] }}{{ {'a':{'b':{}}} }}{{ {'a':1}.a }}{{ {'a':1}['a'] }}{{ [[1]][0][0] }}{{ m.0.role }}
{{ m[0]['content']|trim|upper ~ '!' }}{{ m[-1].role }}{{ m[:1]|length }}{{ m[1:][0].role }}{{ m[1].n + 1 }}{{ m[1].f }}
{{- n -}}   x   {{- n }}  
   {%- if true %}   a   {%- endif %}  b
   {% if true %}
  x
   {% endif %}
y
   {%+ if true %}x{% endif +%}
z
   {{ n }}
   {# c #}
w
{% if true -%}

  x
{%- endif %}
a{{ "
" }}b
{{ n | string + 'a' }}
{{ (n | string) + 'a' }}{{ n|string|length }}
{{ 1 if true else 2 if false else 3 }}{% if x is defined and x.y is defined %}a{% else %}b{% endif %}
{% if 'a' in m[0] %}a{% endif %}{% if 'role' in m[0] %}b{% endif %}{% if 'x' not in m[0].keys() %}c{% endif %}{{ 'role' in m[0].keys() }}
{{ 'x' * -1 }}|{{ [1,2] + [3] }}{{ (1,) + (2,) }}
{{ [1] + (2,) }}
{{ 1 / 0 }}
{{ 'a' < 1 }}
{{ none < 1 }}
{{ {} < {} }}
{{ 1 in 5 }}
{{ 1 in 'a' }}
{{ nosuch|nofilter }}
{{ 1 is nosuchtest }}
{% nosuch %}
{% if %}
{% for %}
{% if true %}
{{ 'abc }}
{{ (1 }}
{{ }}
{% endif %}
{{ a b }}
{% set true = 1 %}
{{ {[]: 1} }}
{{ 'a'.nosuch() }}
{{ 'a'.nosuch }}
{{ loop }}
{% break %}
{{ 1_000 }}{{ 0 }}{{ 00 }}
{{ x.real }}
{{ 1..real }}
{{ "a"|upper|lower|title }}{{ "a".upper().lower() }}
{{ m|map(attribute='role')|join(', ') }}{{ m|map(attribute='tool_calls.0.a')|list }}
{% for x in m %}{% set outer = loop %}{% for y in [1,2] %}{{ outer.index }}{{ loop.index }}{% endfor %}{% endfor %}
{% if loop is defined %}a{% endif %}{% for i in [1] %}{{ loop is defined }}{% endfor %}
{% set x = [] %}{% for i in [1,2] %}{% set x = x + [i] %}{% endfor %}{{ x }}
{% set c = 0 %}{% macro m2() %}{{ c }}{% endmacro %}{% set c = 5 %}{{ m2() }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% macro p(x) -%}  {{ x }}  {%- endmacro %}[{{ p('q') }}]
{%- macro p(x) %}
{{ x }}
{% endmacro %}[{{ p('q') }}]
{{ d.b.c }}
{{ d.a.0 }}{{ d['a'][1] }}{{ d.a[-1] }}
{{ 'ÀÉÎ àéî ŸŠ ΑΒ αβ ЖЯ жя'|lower }}{{ 'àéî šć αβ жя ё'|upper }}{{ 'éa éb'|title }}{{ 'été'|capitalize }}
{{ "it's a dog-house (big)"|title }}{{ "it's a dog-house (big)".title() }}
{{ [1,[2,[3]]]|tojson(indent=1) }}
{{ none|string }}{{ none|upper }}{{ 1|upper }}{{ none|trim }}{{ [1]|string }}{{ x|trim }}{{ x|upper }}{{ 5|replace(5,6) }}{{ none|length }}
{{ ['a', 'b']|tojson|length }}{{ true|tojson }}{{ none|tojson }}{{ 1.0|tojson }}{{ 'a'|tojson }}
{{ namespace(a=1).a }}{{ namespace({'a': 2}).a }}{{ namespace(a=1)['a'] }}
{{ '' is none }}{{ 'a' == 'a' == 'a' }}{{ 1 != 2 }}
{{ "a" "b" | upper }}{{ 'a' | replace('a', "b" "c") }}
{% for i in range(3) -%}
  {{ i }},
{%- endfor %}
{% set a = "x" -%}
   b
{% set content %}{% for i in [1,2] %}{{ i }}{% endfor %}{% endset %}{{ content|length }}
{{ [1,2,3].index(2) }}{{ [1,1].count(1) }}{{ 'abc'.index('b') }}
{{ m|first|tojson }}{{ (m|last).role }}
{{ m[n] }}|{{ m['a'] }}|{{ s.foo }}|{{ s['foo'] }}|{{ n.foo }}|{{ n[0] }}
{{ d|length > 2 and 'x' or 'y' }}
{%if true%}{{1}}{%endif%}{%-  if true  -%} {{- 1 -}} {%-endif-%}
{{ '}}' }}{{ '%}' }}{{ {'a': '}}'} }}{% set x = '%}' %}{{ x }}
{{ "a\
b" }}
{ { } } {a} {{ '{' }} {
{% raw %}{% endraw %}{% raw %} {{ {% endraw %}
{{ true }}{{ True }}{{ false }}{{ None }}{{ none }}
{{ 'a' in undefinedx }}{{ undefinedx|list }}{{ undefinedx|join(',') }}{{ undefinedx|first }}{{ undefinedx == none }}{{ undefinedx != 'a' }}{{ undefinedx is none }}
{{ undefinedx < 1 }}
{{ undefinedx[0] }}
{{ undefinedx[0:1] }}
{{ -undefinedx }}
{{ [1,2,3][1.5] }}
{{ [1,2,3][true] }}
'''.strip("\n").split("\n")
MORE = [
    '   {% if true %}\n  x\n   {% endif %}\ny\n',
    'a\n   {%+ if true %}x{% endif +%}\nz\n',
    '   {{ n }}\n   {# c #}\nw',
    '{% if true -%}\n\n  x\n{%- endif %}\n',
    '{% for i in [1,2] %}\n  {{ i }}\n{% endfor %}\nend\n\n',
    'a\r\nb\r{% if true %}\r\n  c{% endif %}\r\n',
    '{{ n }}\n{{ n }}\n',
    '  {#- x #}\n  {% set a = 1 %}  \n b',
    '{% raw %}\n  a\n  {% endraw %}\n  b',
    '{% raw -%}\n  a\n  {%- endraw -%}\n  b',
    '{{ n -}}\n   {% if true %}\n a{% endif %}',
    '{%- set a -%}\n q \n{%- endset -%}\n[{{ a }}]',
    '{#\n multi\n#}\n  {% if 1 %}\n\n{% endif %}',
    '\n\n',
    '\n',
    ' ',
    '',
    '{% if 1 %} {% endif %}\n  {% if 1 %}x{% endif %}  {% if 1 %}y{% endif %}\n',
    '\t{% if 1 %}\tx{% endif %}',
    "{{ 'a' }}  {% if 1 %}b{% endif %}",
    "{{ 'a' -}}  \n  {% if 1 %}b{% endif %}",
    '  {%- if 1 +%}\n a {% endif %}',
    '  {#+ c #}\nx',
    "  {{- 'a' }}\n  {{+ 1 }}",
    'a {#- c #} b {# c -#} c',
    "{% set x = [\n 1,\n 2\n] %}{{ x }}\n{{ {\n'a':\n1} }}",
]


def quote(text):
    """As a C string of octal escapes where letters do not do."""
    if text is None:
        return "NULL"
    c = ""
    for byte in text.encode():
        ch = chr(byte)
        c += ch if 32 <= byte < 127 and ch not in '"\\?' else "\\%03o" % byte
    return '"%s", %d' % (c, len(text.encode()))


def main():
    variables = json.loads(VARIABLES)
    print("/* Made by record_jinja.py. */")
    print("#ifndef TESTS_GOLDEN_JINJA_CASES_H")
    print("#define TESTS_GOLDEN_JINJA_CASES_H")
    print("/* clang-format off */")
    print("static const char variables[] = %s;" % quote(VARIABLES).rpartition(",")[0])
    print("static const struct jinja_case cases[] = {")
    for source in LINES + MORE:
        words = None
        try:
            text = env.from_string(source).render(**variables)
        except Raised as e:
            text, words = None, str(e)
        except Exception:
            text = None
        print("    {%s, %s, %s}," % (
            quote(source), quote(text) if text is not None else "NULL, 0",
            quote(words).rpartition(",")[0] if words else "NULL"))
    print("};")
    print("/* clang-format on */")
    print("#endif")


main()
