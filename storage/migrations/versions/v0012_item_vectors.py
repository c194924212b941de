"""PostgreSQL: the view `item_vectors`, by which plain SQL reads each item's vector."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: The value of the last bit of a number, by its sign and exponent: of float32 at 1 to 512, of float16 from 513 on. A
#: number is that times a whole number, which double precision holds exactly; the sign is in it, for a zero has one too.
_POWERS = """
CREATE FUNCTION embedmill_powers() RETURNS double precision[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_agg(sign * CASE WHEN exponent = most THEN 'NaN'::double precision
                                 ELSE power(2::double precision, greatest(exponent, 1) - bias) END
                     ORDER BY most DESC, sign DESC, exponent)
    FROM (VALUES (255, 150), (31, 25)) AS formats (most, bias), (VALUES (1), (-1)) AS signs (sign),
         generate_series(0, most) AS exponent
$$
"""

#: Little-endian numbers as an array; NULL where the first is NaN, as it is in the row of an item without a vector.
_FLOATS = """
CREATE FUNCTION embedmill_floats(numbers bytea, dtype text, powers double precision[]) RETURNS real[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    vector real[];
BEGIN
    IF dtype = 'float16' THEN
        vector := ARRAY(
            SELECT (powers[513 + (n >> 10)] * ((n & 1023) + CASE WHEN n & 31744 = 0 THEN 0 ELSE 1024 END))::real
            FROM (SELECT (get_byte(numbers, i + 1) << 8) + get_byte(numbers, i) AS n
                  FROM generate_series(0, length(numbers) - 2, 2) AS i OFFSET 0) AS halves);
    ELSE
        vector := ARRAY(
            SELECT (powers[1 + (high >> 7)]
                    * (((high & 127) << 16) + low + CASE WHEN high & 32640 = 0 THEN 0 ELSE 8388608 END))::real
            FROM (SELECT (get_byte(numbers, i + 3) << 8) + get_byte(numbers, i + 2) AS high,
                         (get_byte(numbers, i + 1) << 8) + get_byte(numbers, i) AS low
                  FROM generate_series(0, length(numbers) - 4, 4) AS i OFFSET 0) AS words);
    END IF;
    RETURN CASE WHEN vector[1] <> 'NaN' THEN vector END;
END
$$
"""

_VIEW = """
CREATE VIEW item_vectors AS
SELECT chunks.job_id,
       chunks.first + items.i AS position,
       items.custom_id,
       embedmill_floats(
           substring(results.vectors FROM (items.i * bytes.a_row)::int + 1 FOR bytes.a_row),
           results.dtype,
           embedmill_powers()
       ) AS vector
FROM jobs
JOIN chunks ON chunks.job_id = jobs.id AND chunks.state <> 'split'
JOIN inputs ON inputs.job_id = chunks.job_id AND inputs.number = chunks.number
LEFT JOIN results ON results.job_id = chunks.job_id AND results.number = chunks.number
CROSS JOIN LATERAL ROWS FROM (
    generate_series(0, chunks.size - 1), json_array_elements_text(inputs.ids::json)
) AS items (i, custom_id)
CROSS JOIN LATERAL (
    SELECT (results.width * CASE results.dtype WHEN 'float16' THEN 2 ELSE 4 END)::int AS a_row
) AS bytes
WHERE jobs.deleted_at IS NULL AND jobs.state <> 'accepting'
"""


def upgrade() -> None:
    """Apply."""
    if op.get_bind().dialect.name == "postgresql":
        for statement in (_POWERS, _FLOATS, _VIEW):
            op.execute(statement)


def downgrade() -> None:
    """Take back."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP VIEW item_vectors")
        op.execute("DROP FUNCTION embedmill_floats(bytea, text, double precision[])")
        op.execute("DROP FUNCTION embedmill_powers()")
