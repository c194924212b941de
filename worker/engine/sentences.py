"""Sentences of many kinds and languages that a model's speed and number formats are tried on before it serves."""

from __future__ import annotations

SENTENCES = """
The kettle has been singing on the stove for the last ten minutes.
Put the walnuts in a dry pan and shake them until they smell of autumn.
best soup for a cold evening
How long can cooked rice be kept in the refrigerator?
Knead the dough for eight minutes, cover it with a damp cloth, and let it rise until you can press a finger into it.
We ran out of flour, so the pancakes became an omelette.
The baker on our street opens at five and has sold everything by nine.
Is sourdough bread easier to digest than bread made with yeast?
A pinch of salt brings out the sweetness of a melon.
Serves four; 35 minutes; contains nuts, milk and eggs.
The wind has turned to the north-east and it smells of snow.
weather Bergen next weekend
Flood warnings are in force for eleven rivers, and drivers are asked to stay away from the low roads by the estuary.
It drizzled, then it poured, then the sun came out as if nothing had happened.
Average rainfall in July: 48.3 mm, the lowest value since 1911.
The glacier has lost a third of its length within one lifetime.
Fog lay in the valley like milk in a bowl.
What is the difference between a hurricane and a typhoon?
The harvest failed twice in a row because the spring was too dry.
A warm front moves across the country during the night and brings rain, heavy at times, to the hills of the west.
Connection refused: could not reach the host db-03 on port 5432 after 3 attempts.
python how to sort a dictionary by value
def mean(values): return sum(values) / len(values)
The function returns the number of bytes that were written, or -1 when the disk is full.
SELECT name, count(*) FROM orders WHERE paid = true GROUP BY name ORDER BY 2 DESC;
Why does my program use more memory each time the loop runs?
Version 4.2 removes the old interface; see the migration guide for a list of everything that has been renamed.
A compiler translates a whole program before it runs; an interpreter reads it line by line.
git push rejected because the remote contains work that you do not have locally
Backups that nobody has ever restored are not backups.
TypeError: unsupported operand type(s) for +: 'int' and 'str'
The scheduler gives every waiting process a turn, so that none of them starves.
Encryption keys are rotated every ninety days and are never written to a log.
She scored twice in the second half, and the home crowd sang until the lights went out.
final score 3:2 after extra time
The record for the hundred metres had stood for fourteen years.
Do I need a helmet for indoor climbing?
He has broken the same collarbone three times and still rides every Sunday.
The referee looked at the replay and took the goal back.
Training plan for a first half marathon: three runs a week, one of them long and slow, for twelve weeks.
Nobody had expected the youngest team of the league to win away from home.
The boat capsized at the last buoy, yet the crew finished the race.
A good fencer watches the hand, not the blade.
The museum keeps a letter that the explorer wrote on the evening before he died.
who built the hanging gardens
In 1755 an earthquake, a tidal wave and a fire destroyed most of Lisbon within a single morning.
The peasants paid their rent in grain, in eggs, and in days of work on the lord's own fields.
Coins from three empires were found in one clay pot.
The bridge was blown up in the last week of the war and rebuilt by the people of both banks.
Why did the Roman road network outlive the empire that paid for it?
The charter gave the town a market, a wall and a court of its own.
Her grandfather had sailed round Cape Horn before he was twenty.
The archive burned for two days, and with it the only map of the old harbour.
The second movement begins so quietly that the audience stops breathing.
how to tune a ukulele
The band broke up in a hotel corridor and got together again in a court room.
Nine guitars, two drummers and a tuba: it should not work, and it does.
A fugue is a conversation in which everybody repeats the same sentence and nobody is bored.
The recording was made in one night, in a church with a leaking roof, and you can hear the rain.
Is it harder to learn the violin as an adult?
The organ has 2,418 pipes, the smallest no longer than a pencil.
He whistles when he is afraid.
The ferry to the island runs twice a day in summer and on Tuesdays in winter.
cheap flights from Porto to Krakow in October
Our compartment smelled of oranges, wet wool and somebody's little dog.
Turn left at the chapel, follow the stream for two kilometres, and cross it where the three poplars stand.
The hotel was clean, the staff were kind, but the walls are thin and the road is loud: three stars.
Do citizens of Chile need a visa for Georgia?
She packed for a week and stayed for eleven years.
Platform 4: the 17:42 to Ghent is delayed by approximately twenty-five minutes.
From the pass you can see two countries and, on clear days, the sea.
The taxi driver knew every joke and no address.
A heron stood in the shallow water and did not move for an hour.
why do cats purr
The elk population has recovered since the wolves came back to the park.
Young swifts sleep, eat and drink in the air, and may not touch the ground for three years.
The beekeeper lost half of his hives to mites last winter.
Ants of this species farm a fungus that grows nowhere else.
Lost: grey parrot, answers to Admiral, swears in Dutch.
Sharks are older than trees.
Octopuses have three hearts, blue blood, and a talent for leaving aquariums.
The vet said that the limp would go away by itself, and it did.
The central bank left its key rate unchanged at 2.75 per cent.
is it better to rent or to buy a flat
Net revenue rose by 12 % to 4.1 billion, while operating costs fell for the third quarter in a row.
Please find attached the invoice no. 2024-0817 over EUR 1,249.00, payable within 14 days.
He lent his brother the money and lost both.
The pension fund sold its shares in coal mines.
Inflation eats the savings of those who have little faster than the savings of those who have much.
A bond's price falls when interest rates rise, and it falls further the longer the bond still runs.
Customers may return goods within thirty days if the packaging is not damaged.
The auction ended at nine times the estimate.
Take one tablet twice a day after meals, and do not drive while you take them.
symptoms of low iron
The patient, a 54-year-old teacher, reported a dull pain in the left shoulder that had lasted for six weeks.
Walking half an hour a day lowers blood pressure about as much as some pills do.
Wash the cut, press a clean cloth on it, and hold the hand above the heart.
The trial compared the new vaccine with the old one in 30,412 volunteers on three continents.
Can you catch the same cold twice?
Sleep is when the brain takes out the rubbish.
Nurses on night shift drink more coffee and laugh more.
An allergy is an alarm that rings without a fire.
The probe will reach the moons of Jupiter in eight years, if its largest antenna opens.
how far away is the nearest star
Light from that galaxy left it before the first fish had legs.
A day on Venus is longer than its year.
The telescope found water vapour in the air of a planet that circles a red dwarf.
Two black holes, each about thirty times as heavy as the sun, merged and shook the space around them.
Gravity is weak: a small magnet lifts a nail against the pull of a whole planet.
The astronaut missed the smell of cut grass.
Entropy never decreases in a closed system.
The catalyst lowers the energy that the reaction needs to start, and is not used up itself.
The tenant may end the contract with three months' notice to the end of a month.
what to do if a parcel never arrived
Parliament passed the bill by four votes after a debate that lasted until dawn.
The witness could not say which of the two cars had crossed the line first.
All personal data is deleted when the account is closed, unless the law demands that it be kept.
The court found that the clause was surprising and therefore void.
Where do I register a bicycle that I brought from abroad?
The mayor resigned over a swimming pool.
Neither party is liable for delays that are caused by fire, flood, war or strike.
Voting is compulsory in some countries, a right in most, and a memory in others.
Dear Ms Okafor, thank you for your application; we would like to meet you on Thursday at 10:30.
meeting notes 12 March: budget, new office, summer party
Sorry for the late reply, I was travelling and had no connection.
Could you send me the slides before Friday?
The printer on the second floor is out of order again.
Congratulations on the new job, and do not forget us!
Let us move the call to the afternoon, because half of the team is still on the train.
Your order has been shipped and should arrive within two to four working days.
I loved the first half of this book and threw the second half across the room.
Terrible battery, great screen, and the support never answered.
This drill is worth every cent.
The jacket runs small: order one size larger than you usually wear.
Five stars for the pie, one for the waiter.
After two weeks of daily use the handle broke off, and the shop wanted me to pay for the repair.
wireless headphones with long battery life under 100
The film is forty minutes too long and I would not cut a second of it.
Once upon a time a miller had three sons, a mill, a donkey and a cat.
She closed the door, counted to a hundred, and opened it again; the room was still empty.
The old man spoke to the sea as other people speak to a dog.
Nothing happened that year, and then everything happened on one afternoon in June.
If I had known what was in the box, I would have carried it more gently.
He promised to come back, and he did, though not to her.
The moon rose over the brickworks, enormous and slightly late.
All the clocks in the house disagreed, which suited everybody.
A line is the shortest way between two points, and seldom the best one.
Prove that the square root of two cannot be written as a fraction.
The derivative of x^2 is 2x, and its integral from 0 to 1 is 1/3.
If all ravens are black, then whatever is not black is no raven.
Multiply both sides by the denominator before you collect the terms.
The median is less troubled by a few very large values than the mean is.
There are more ways to shuffle a pack of cards than there are atoms on earth.
Teachers should ask questions to which they do not know the answer.
The class planted a tree for every pupil who left the school.
how to write a letter of recommendation
Reading aloud to small children is the cheapest lesson there is.
She learned Welsh from her neighbour and the neighbour's sheepdog.
The exam consists of a written part of ninety minutes and a talk of a quarter of an hour.
Sand the wood along the grain, wipe off the dust, and put on a thin coat of oil.
leaking tap washer replacement
The boiler shows error E07 whenever the pressure falls below one bar.
Measure twice, cut once, and swear quietly.
The roof was covered with slates from a quarry that closed a century ago.
Never connect the red wire to the yellow one.
A well laid dry stone wall stands for two hundred years without a drop of mortar.
Water the tomatoes at the root, in the morning, and never on the leaves.
The engine is started with a crank and stopped with a coat.
https://example.org/catalogue/item?id=48213&lang=en
contact: info@example.com, phone +00 123 456 789
red bicycle
yes
no idea
Monday, Tuesday, Wednesday, Thursday, Friday
2026-03-14T15:09:26Z INFO request finished in 53 ms status=200 bytes=18231
apple banana cherry damson elderberry fig grape
ISBN 978-0-00-000000-2, 312 pages, hardback, third edition
A
???
lorem ipsum is not Latin
SPECIAL OFFER!!! ONLY TODAY!!!
the the the the
Temperature: -17.5 °C; humidity: 83 %; wind: 12 km/h, NW
{"name": "mill", "open": true, "grain": ["rye", "oats", "wheat"]}
Das Brot ist noch warm, warte noch eine halbe Stunde mit dem Schneiden.
Wie komme ich vom Bahnhof zum Rathaus?
Die Genossenschaft hat die alte Mühle gekauft und will sie im Frühjahr wieder in Betrieb nehmen.
Gestern hat es so stark geregnet, dass der Keller unter Wasser stand.
Donaudampfschifffahrtsgesellschaft
Der Vertrag verlängert sich um ein Jahr, wenn er nicht drei Monate vorher gekündigt wird.
Er sagte nichts, und das sagte alles.
Le boulanger du village ferme le mercredi.
Où puis-je acheter un billet pour le train de nuit ?
La bibliothèque municipale prête aussi des outils, des partitions et des instruments de musique.
Il a plu toute la nuit, mais le marché a ouvert quand même.
Cette loi ne s'applique pas aux contrats conclus avant le premier janvier.
On ne voit bien la montagne que de loin.
El tren sale a las siete y cuarto de la vía número dos.
¿Cuánto tiempo hay que cocer los garbanzos?
La cosecha de este año ha sido la mejor de la última década, según los agricultores del valle.
Mi abuela guardaba las cartas en una caja de galletas.
El servidor no responde; inténtelo de nuevo más tarde.
Quien canta, sus males espanta.
Il caffè era freddo, ma la conversazione no.
Dove si trova la farmacia più vicina?
Il ponte è stato chiuso per lavori e riaprirà soltanto a settembre.
I pescatori tornano all'alba con le reti piene di sardine.
O comboio para o Porto está atrasado meia hora.
Quantas línguas se falam em Moçambique?
A menina aprendeu a nadar no rio, com o avô e dois cães.
Depois da tempestade, as ruas cheiravam a terra molhada e a eucalipto.
De molen draait alleen als de wind uit het westen komt.
Hoe laat begint de voorstelling?
Wie een fiets koopt, moet ook een slot kopen.
Tåget till Malmö är inställt på grund av snö.
Hun glemte paraplyen på bussen, og så begynte det å regne.
Kuka vei viimeisen korvapuustin?
Młynarz śpi, a woda dalej płynie.
Gdzie mogę zapłacić tym rachunek?
Na rynku sprzedawano jabłka, miód i stare książki.
Vlak do Brna jede z pátého nástupiště.
A malom kereke lassan forog, de sosem áll meg.
Trenul de noapte ajunge la Cluj dimineața, la ora șapte.
Мельник встаёт раньше солнца.
Сколько стоит билет до Новосибирска?
Учёные нашли под площадью остатки деревянной мостовой двенадцатого века.
Поезд опоздал на сорок минут, и мы пошли пить чай.
Книга, которую ты мне дал, лежит на столе у окна.
Де найближча аптека?
Хлябът е още топъл.
Ο μύλος γυρίζει μόνο όταν φυσάει βοριάς.
Πού είναι η στάση του λεωφορείου;
Değirmen yüz yıldır aynı ailenin elinde.
Bu trende yemekli vagon var mı?
Yağmur dinince çocuklar sokağa koştu.
القطار يغادر المحطة في السابعة صباحا.
أين أجد أقرب صيدلية؟
كان الطحان يستيقظ قبل شروق الشمس كل يوم.
הלחם עדיין חם.
איפה תחנת הרכבת?
قطار شب ساعت هفت به تبریز می‌رسد.
रोटी अभी गरम है।
अगली बस कितने बजे आएगी?
नदी के किनारे एक पुरानी चक्की है जो आज भी चलती है।
রুটি এখনও গরম আছে।
ரொட்டி இன்னும் சூடாக இருக்கிறது.
ขนมปังยังอุ่นอยู่
รถไฟไปเชียงใหม่ออกกี่โมง
Chuyến tàu đêm đi Huế khởi hành lúc bảy giờ.
Bánh mì vẫn còn nóng, đợi thêm một chút nhé.
Kereta malam ke Surabaya berangkat pukul tujuh.
Roti itu masih hangat.
Mkate bado una joto.
磨坊的水车转了一百年。
去火车站怎么走？
面团要放在温暖的地方，等它发到两倍大再揉一次。
昨天夜里的大风把院子里的老槐树吹倒了。
他把钱借给了弟弟，结果两样都没有了。
请在三十天内付清这张发票。
程序每循环一次就多占一些内存，这是为什么？
新闻说明天有暴雨，请大家不要靠近河边的低洼道路。
法院认为这一条款显失公平，因此无效。
春天的时候，燕子在屋檐下做窝。
這家小店的牛肉麵一碗一百二十元。
請問下一班公車幾點開？
水車は百年前から同じ音で回っている。
駅までどうやって行けばいいですか。
昨夜の雨で川の水が増え、橋が通れなくなりました。
パンはまだ温かいので、もう少し待ってください。
このプログラムはなぜ遅いのですか？
방앗간의 물레방아는 백 년 동안 돌았다.
다음 버스는 몇 시에 와요?
어젯밤 비가 많이 와서 지하실에 물이 찼습니다.
빵이 아직 따뜻하니까 조금만 기다려 주세요.
""".strip().splitlines()
